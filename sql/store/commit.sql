-- Commit the transaction that store/begin started.

COMMIT;
