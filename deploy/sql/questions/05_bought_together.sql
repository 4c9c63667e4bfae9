-- What do people buy together with our best seller?
-- Lift: how many times likelier an item is in a basket with the best seller than in any basket.
-- Only items that share enough baskets with it, so that chance does not lead the list.
WITH lines AS (SELECT DISTINCT basket_id, item_id FROM interactions),
totals AS (SELECT count(DISTINCT basket_id) AS baskets FROM lines),
sold AS (SELECT item_id, count(*) AS baskets FROM lines GROUP BY item_id),
best AS (SELECT item_id, baskets FROM sold ORDER BY baskets DESC, item_id LIMIT 1),
together AS (
  SELECT other.item_id, best.item_id AS best_id, best.baskets AS best_baskets, count(*) AS both
  FROM best
  JOIN lines mine ON mine.item_id = best.item_id
  JOIN lines other ON other.basket_id = mine.basket_id AND other.item_id <> best.item_id
  GROUP BY ALL
)
SELECT
  b.description AS best_seller,
  i.description AS bought_with_it,
  t.both AS baskets_with_both,
  round(100 * t.both / t.best_baskets, 1) AS percent_of_its_baskets,
  round(t.both / t.best_baskets / (s.baskets / totals.baskets), 1) AS lift
FROM together t
CROSS JOIN totals
JOIN sold s ON s.item_id = t.item_id
LEFT JOIN items i ON i.item_id = t.item_id
LEFT JOIN items b ON b.item_id = t.best_id
WHERE t.both >= 0.05 * t.best_baskets
ORDER BY lift DESC, bought_with_it
LIMIT 10;
