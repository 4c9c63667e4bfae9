-- What did the campaign bring, by segment?
-- Sales of a customer, treatment against control, with the 95 % interval of the difference and
-- what the test could have seen. A void row says why it tells nothing.
SELECT
  strategy,
  recommendations_commit AS commit,
  segment_by,
  segment,
  treatment_customers AS treated,
  control_customers AS held_out,
  round(control, 2) AS control,
  round(difference, 2) AS difference,
  round(low, 2) AS low,
  round(high, 2) AS high,
  round(detectable, 2) AS could_see,
  verdict,
  void_reason
FROM campaign_results
WHERE metric = 'sales_per_customer'
ORDER BY strategy, commit, segment_by <> 'all', segment_by, segment;
