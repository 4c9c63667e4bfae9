-- Which model is live, since when, who promoted it, and how good was it?
-- Quality on the test window, of the training run that the release is a copy of.
SELECT
  p.stage,
  p.version,
  p.algorithm,
  date_format(p.time, 'yyyy-MM-dd HH:mm') AS since,
  p.reviewer,
  p.approvals_wanted,
  m.test_ndcg_at_10,
  m.test_recall_at_10,
  m.test_coverage_at_10,
  p.decision
FROM promotions p
LEFT JOIN model_runs m ON m.model_digest = p.model_digest AND m.algorithm IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY p.stage ORDER BY p.generation DESC, m.started) = 1
ORDER BY p.stage;
