-- How much of the sales comes from repeat purchases?
-- By how many orders a customer had before; guests cannot be told apart, so they stand alone.
WITH orders AS (
  SELECT customer_id, basket_id, min(timestamp) AS bought, sum(sales) AS sales
  FROM interactions
  GROUP BY customer_id, basket_id
),
numbered AS (
  SELECT *, row_number() OVER (PARTITION BY customer_id ORDER BY bought, basket_id) AS number
  FROM orders
)
SELECT
  CASE
    WHEN customer_id IS NULL THEN 'guests'
    WHEN number = 1 THEN 'first order'
    WHEN number = 2 THEN 'second order'
    WHEN number <= 5 THEN 'third to fifth'
    ELSE 'sixth and later'
  END AS which,
  count(DISTINCT customer_id) AS customers,
  count(*) AS orders,
  round(sum(sales)) AS sales,
  round(100 * sum(sales) / sum(sum(sales)) OVER (), 1) AS percent_of_sales
FROM numbered
GROUP BY which
ORDER BY sales DESC;
