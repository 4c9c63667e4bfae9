-- Which customers are at risk, and what would win them back?
-- For each segment that has not bought lately: what it was worth, and the three items that
-- most of its customers are recommended, by each strategy that means them.
WITH quiet AS (
  SELECT *, count(*) OVER (PARTITION BY segment) AS members,
    sum(monetary) OVER (PARTITION BY segment) AS sales
  FROM customers
  WHERE segment IN ('at risk', 'lost')
),
given AS (
  SELECT q.segment, q.members, q.sales, r.strategy, i.description AS item,
    count(*) AS customers_shown
  FROM quiet q
  JOIN recommendations r ON r.customer_id = q.customer_id
  LEFT JOIN items i ON i.item_id = r.item_id
  GROUP BY ALL
)
SELECT segment, members, round(sales) AS sales, strategy, item, customers_shown
FROM given
QUALIFY row_number() OVER (PARTITION BY segment, strategy ORDER BY customers_shown DESC, item) <= 3
ORDER BY segment, strategy, customers_shown DESC, item;
