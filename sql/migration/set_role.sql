-- Act as this role for the rest of the session: what is created belongs to it.
--
-- role: name of a role that this session's user is a member of, or none for the user itself

SELECT set_config('role', :'role'::text, FALSE) AS role;
