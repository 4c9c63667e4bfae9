-- Which items are recommended most, from which categories and price bands?
-- A band is of the median price; shares are of all recommendations that are current.
WITH prices AS (
  SELECT item_id, median(unit_price) AS price FROM interactions GROUP BY item_id
),
shown AS (
  SELECT
    coalesce(i.category, 'unknown') AS category,
    CASE
      WHEN p.price < 1 THEN '1: below 1'
      WHEN p.price < 2.5 THEN '2: 1 to 2.50'
      WHEN p.price < 5 THEN '3: 2.50 to 5'
      WHEN p.price < 10 THEN '4: 5 to 10'
      ELSE '5: 10 and above'
    END AS price_band,
    i.description AS item,
    count(*) AS times
  FROM recommendations r
  LEFT JOIN items i ON i.item_id = r.item_id
  LEFT JOIN prices p ON p.item_id = r.item_id
  GROUP BY ALL
)
SELECT
  category,
  price_band,
  count(*) AS items,
  sum(times) AS recommendations,
  round(100 * sum(times) / sum(sum(times)) OVER (), 1) AS percent,
  max_by(item, struct(times, item)) AS most_shown,
  max(times) AS times
FROM shown
GROUP BY category, price_band
ORDER BY recommendations DESC, category, price_band
LIMIT 10;
