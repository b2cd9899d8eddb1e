"""Lists the settings of this session through which parameters of a client's statements reach the server's log."""

from __future__ import annotations

# Each entry tells when its setting lets values through and something writes the statements that have them. From
# PostgreSQL 16 on, auto_explain writes the parameters of every plan that it logs. Older versions have no such setting.
VALUES = """
WITH setting AS (SELECT name, setting AS value FROM pg_catalog.pg_settings)
SELECT string_agg(s.name, ', ' ORDER BY s.name) AS found, count(*) AS count FROM setting s
WHERE s.value <> '0' AND (s.name = 'log_parameter_max_length_on_error'
    OR s.name = 'log_parameter_max_length' AND EXISTS (SELECT FROM setting o
        WHERE o.name IN ('log_min_duration_statement', 'log_min_duration_sample') AND o.value <> '-1'
            OR o.name = 'log_transaction_sample_rate' AND o.value <> '0'
            OR o.name = 'log_statement' AND o.value IN ('mod', 'all'))
    OR s.name = 'auto_explain.log_parameter_max_length' AND EXISTS (SELECT FROM setting o
        WHERE o.name = 'auto_explain.log_min_duration' AND o.value <> '-1'))"""
HINT = 'Set them to 0: see SECURITY.md, "What SQL text holds".'
