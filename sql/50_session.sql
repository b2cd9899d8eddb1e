-- These functions connect a session to the Python package. Bodies are thin: they call one method of the object in GD.

CREATE FUNCTION envelope_internal.bootstrap() RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
import os, sys
library = plpy.execute("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'")[0]["setting"]
# The build that the link names now: what this session loads later must be of the same one, also after an upgrade.
build = os.path.realpath(f"{library}/pg_envelope")
packages = f"{build}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
if packages not in sys.path:
    sys.path.insert(0, packages)
try:
    from pg_envelope.backend import start
    start.prepare(plpy)
    from pg_envelope.backend.session import Session
except ImportError:
    plpy.error("the Python package of pg_envelope is not installed for this server", sqlstate="55000",
               detail=f"looked in {packages}", hint="Run 'make install' on the server's machine.")
GD["pg_envelope"] = Session(plpy)
$$;
COMMENT ON FUNCTION envelope_internal.bootstrap IS
    'loads the package into this session. SECURITY DEFINER: pg_config is readable to its owner only';

-- A session keeps its plans, and makes the first ones while the catalog is small. The plans must suit a large catalog,
-- too. Plans are generic from the first time, because it takes ten times as long to make a plan as to run it.
-- With exit_on_error a session would end at an error that a step catches.
CREATE FUNCTION envelope_internal.run_step(acting name) RETURNS void
    LANGUAGE plpython3u SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan SET exit_on_error = off AS $$
if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')
GD['pg_envelope'].run_step(acting)
$$;
COMMENT ON FUNCTION envelope_internal.run_step IS
    'runs, as the extension''s owner, the step that the package began in this session; a call by hand is refused. acting: the role that began the step. SECURITY DEFINER: a step uses the key catalog';

CREATE FUNCTION envelope_internal.revocation() RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC SELECT last_value FROM envelope_private.revocation_xid; END;
COMMENT ON FUNCTION envelope_internal.revocation IS
    'the last transaction that took a key away, for sessions of a standby. SECURITY DEFINER: reads the key catalog';

CREATE FUNCTION envelope_internal.canonical(value anyelement) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = 'iso_8601' SET "TimeZone" = 'UTC'
    SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C'
    AS $$ BEGIN RETURN CASE WHEN value IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', value) END; END $$;
COMMENT ON FUNCTION envelope_internal.canonical IS 'the canonical text of a value, under any settings of the session: FORMAT.md section 1.2';

-- array_nulls decides whether an array's input function takes NULL for the absence of a value or for a word of four
-- letters.
CREATE FUNCTION envelope_internal.array_of(content envelope.plaintext, kind anyarray) RETURNS anyarray
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp SET array_nulls = on
    AS $$ BEGIN RETURN content; END $$;
COMMENT ON FUNCTION envelope_internal.array_of IS 'the array of a canonical text, under any settings of the session; `kind` is a NULL of its type';

-- It uses an array of one element, because PL/pgSQL turns no text into a composite value.
CREATE FUNCTION envelope_internal.value_of(content envelope.plaintext, kind anyarray) RETURNS anyelement
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp SET array_nulls = on
    AS $$
DECLARE
    one kind%TYPE := ('{"' || replace(replace(content::text, E'\\', E'\\\\'), '"', E'\\"') || '"}')::envelope.plaintext;
BEGIN
    RETURN one[1];
END $$;
COMMENT ON FUNCTION envelope_internal.value_of IS 'the value of a canonical text, under any settings of the session; `kind` is a NULL of an array of its type';
