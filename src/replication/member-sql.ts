/**
 * A term of a recursive WITH: the tables ($1, $2: schemas and names) with all that inherits from them;
 * `asked` counts the tables from 1.
 */
export const ASKED_MEMBERS = `member(asked, oid) AS (
  SELECT w.asked, c.oid
    FROM unnest($1::name[], $2::name[]) WITH ORDINALITY AS w (schema, name, asked)
    JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
   UNION
  SELECT m.asked, i.inhrelid FROM member m JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid
)`;
