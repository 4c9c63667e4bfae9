-- Who are our best customers, and what do we recommend them?
-- Best: the highest lifetime value. Those without items are held out, or not in the audience.
SELECT
  c.customer_id,
  c.segment,
  c.frequency AS orders,
  round(c.monetary) AS sales,
  round(c.lifetime_value) AS lifetime_value,
  any_value(a.arm) AS arm,
  concat_ws(' · ', transform(
    array_sort(collect_list(struct(r.rank, i.description))), given -> given.description
  )) AS first_three
FROM customers c
LEFT JOIN audience a
  ON a.customer_id = c.customer_id AND a.strategy = 'next_best_products'
LEFT JOIN recommendations r
  ON r.customer_id = c.customer_id AND r.strategy = 'next_best_products' AND r.rank <= 3
LEFT JOIN items i ON i.item_id = r.item_id
GROUP BY ALL
ORDER BY lifetime_value DESC, c.customer_id
LIMIT 10;
