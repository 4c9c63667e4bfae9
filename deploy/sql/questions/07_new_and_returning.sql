-- How many customers are new, and how many come back, month by month?
-- New: the first order of their history falls into the month. The first and the last month may be
-- cut, and everyone is new in the first.
WITH active AS (
  SELECT customer_id, date_trunc('MONTH', timestamp) AS month, sum(sales) AS sales
  FROM interactions
  WHERE customer_id IS NOT NULL
  GROUP BY ALL
)
SELECT
  date_format(a.month, 'yyyy-MM') AS month,
  count_if(a.month = date_trunc('MONTH', c.first_purchase)) AS new_customers,
  count_if(a.month > date_trunc('MONTH', c.first_purchase)) AS returning_customers,
  round(100 * sum(if(a.month > date_trunc('MONTH', c.first_purchase), a.sales, 0)) / sum(a.sales), 1)
    AS percent_of_sales_returning
FROM active a
JOIN customers c ON c.customer_id = a.customer_id
GROUP BY a.month
ORDER BY a.month;
