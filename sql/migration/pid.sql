-- Which server process answers?

SELECT pg_backend_pid() AS pid;
