-- Start the transaction that several statements share.

BEGIN;
