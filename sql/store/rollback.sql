-- Roll back the transaction that store/begin started.

ROLLBACK;
