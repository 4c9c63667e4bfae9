-- How large are baskets, by segment, in the last full months?
-- Sales and units of an order. A customer's segment is that of today, not of the month.
WITH orders AS (
  SELECT customer_id, basket_id, date_trunc('MONTH', min(timestamp)) AS month,
    sum(sales) AS sales, sum(quantity) AS units
  FROM interactions
  WHERE customer_id IS NOT NULL
  GROUP BY customer_id, basket_id
)
SELECT
  date_format(o.month, 'yyyy-MM') AS month,
  c.segment,
  count(*) AS orders,
  round(avg(o.sales), 2) AS sales_an_order,
  round(avg(o.units), 1) AS units_an_order
FROM orders o
JOIN customers c ON c.customer_id = o.customer_id
WHERE o.month < date_trunc('MONTH', c.as_of)
  AND o.month >= add_months(date_trunc('MONTH', c.as_of), -3)
GROUP BY o.month, c.segment
ORDER BY month, sales_an_order DESC;
