-- The collector's own role: owner of its schema, without rights on Airflow's tables, and readable
-- by `airflow`. psql runs it as a superuser at every start. Repeating it changes nothing, except that
-- the role gets the password in DATABASE_PASSWORD, and tables of the schema that another role has
-- made change their owner.
\set ON_ERROR_STOP on
\set collector_password collector
\getenv collector_password DATABASE_PASSWORD

SELECT 'CREATE ROLE collector LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'collector') \gexec
ALTER ROLE collector PASSWORD :'collector_password';

GRANT CREATE ON DATABASE :DBNAME TO collector;
CREATE SCHEMA IF NOT EXISTS draenei_content;
ALTER SCHEMA draenei_content OWNER TO collector;

SELECT format('ALTER TABLE draenei_content.%I OWNER TO collector', c.relname)
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
INNER JOIN pg_roles AS r ON r.oid = c.relowner
WHERE
    n.nspname = 'draenei_content'
    AND c.relkind IN ('r', 'p', 'v', 'm')
    AND r.rolname <> 'collector' \gexec

SELECT format('ALTER ROUTINE %s OWNER TO collector', p.oid::regprocedure)
FROM pg_proc AS p
INNER JOIN pg_namespace AS n ON n.oid = p.pronamespace
INNER JOIN pg_roles AS r ON r.oid = p.proowner
WHERE n.nspname = 'draenei_content' AND r.rolname <> 'collector' \gexec

GRANT USAGE ON SCHEMA draenei_content TO airflow;
GRANT SELECT ON ALL TABLES IN SCHEMA draenei_content TO airflow;
ALTER DEFAULT PRIVILEGES FOR ROLE collector IN SCHEMA draenei_content
GRANT SELECT ON TABLES TO airflow;
