-- Which rows were refused, and why?
-- A row may have several reasons, so the shares may add up to more than 100.
SELECT
  reason,
  count(*) AS refused_rows,
  round(100 * count(*) / (SELECT count(*) FROM quarantine), 1) AS percent_of_refused,
  round(
    100 * count(*) / ((SELECT count(*) FROM quarantine) + (SELECT count(*) FROM interactions)), 2
  ) AS percent_of_all
FROM quarantine
LATERAL VIEW explode(reasons) AS reason
GROUP BY reason
ORDER BY refused_rows DESC, reason;
