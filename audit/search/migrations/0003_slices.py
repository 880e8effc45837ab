"""Days are read by slices: hashes of a quarter of an hour and of a size stand among a record's words."""

from django.db import migrations

from tenants.isolation import APPLICATION_ROLE, OWN_ROWS

TENANT = "nullif(current_setting('custos.tenant', true), '')::uuid"

# Entries of before have no slices: they are made anew, in partitions that keep words out of their rows.
EMPTY = """
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = 'public.audit_search_entry'::regclass LOOP
        EXECUTE format('DROP TABLE %s', part);
    END LOOP;
END $$;
"""

PARTITIONS = f"""
CREATE OR REPLACE FUNCTION audit_search_ensure_partition(wanted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $body$
DECLARE
    part text := 'audit_search_entry_' || to_char(wanted, 'YYYYMMDD');
BEGIN
    IF to_regclass('public.' || part) IS NOT NULL THEN
        RETURN;
    END IF;
    IF wanted IS NULL OR to_regclass('public.audit_record_' || to_char(wanted, 'YYYYMMDD')) IS NULL THEN
        RAISE EXCEPTION 'no index for %: there are no records of that day', wanted
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_search_ensure_partition', 0));
    IF to_regclass('public.' || part) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.audit_search_entry INCLUDING ALL)', part);
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, {APPLICATION_ROLE}', part);
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', part);
    EXECUTE format('CREATE POLICY own_rows ON public.%I USING (%s) WITH CHECK (%2$s)', part, $own${OWN_ROWS}$own$);
    EXECUTE format('ALTER TABLE public.audit_search_entry ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                   part, wanted, wanted + 1);
END $body$;

-- Days of which there is an index, newest first, and about how many entries each has.
DROP FUNCTION audit_search_days();
CREATE FUNCTION audit_search_days() RETURNS TABLE (day date, rows bigint) LANGUAGE sql STABLE AS $$
    SELECT pg_catalog.to_date(pg_catalog.right(relname, 8), 'YYYYMMDD'),
        (pg_catalog.pg_relation_size(pg_class.oid)
            / CASE WHEN reltuples > 0 AND relpages > 0 THEN relpages * 8192 / reltuples ELSE 250 END)::bigint
    FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'public.audit_search_entry'::regclass
    ORDER BY 1 DESC;
$$;
"""

READING = f"""
DROP FUNCTION audit_search_hits(date[], jsonb[], text, integer);
DROP FUNCTION audit_search_day(date, jsonb, text, integer);

-- What a plan asks of words, which GIN tells alone; NULL when it asks nothing. What they must not be is left out.
CREATE FUNCTION audit_search_words(plan jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    conditions text[] := '{{}}';
    clause jsonb;
BEGIN
    IF jsonb_array_length(plan->'must') > 0 THEN
        conditions := conditions || format('words @> %L::bigint[]', translate(plan->>'must', '[]', '{{}}'));
    END IF;
    FOR clause IN SELECT jsonb_array_elements(plan->'any') LOOP
        conditions := conditions || format('words && %L::bigint[]', translate(clause::text, '[]', '{{}}'));
    END LOOP;
    RETURN nullif(array_to_string(conditions, ' AND '), '');
END $body$;

-- What a plan asks of the plain columns.
CREATE OR REPLACE FUNCTION audit_search_condition(plan jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    condition text := format('keeping = %L', plan->>'keeping');
    texts text[];
BEGIN
    IF plan ? 'rule' THEN
        SELECT array_agg(value) INTO texts FROM jsonb_array_elements_text(plan->'rule');
        condition := condition || format(' AND rules @> %L::text[]', texts);
    END IF;
    IF plan ? 'risk' THEN
        SELECT array_agg(value) INTO texts FROM jsonb_array_elements_text(plan->'risk');
        condition := condition || format(' AND risk = ALL(%L::text[])', texts);
    END IF;
    IF plan ? 'kinds' THEN
        SELECT array_agg(value) INTO texts FROM jsonb_array_elements_text(plan->'kinds');
        condition := condition || format(' AND kind = ANY(%L::text[])', texts);
    END IF;
    IF plan ? 'but' THEN
        SELECT array_agg(value) INTO texts FROM jsonb_array_elements_text(plan->'but');
        condition := condition || format(' AND kind <> ALL(%L::text[])', texts);
    END IF;
    IF plan ? 'least' THEN
        condition := condition || format(' AND tokens >= %L', plan->>'least');
    END IF;
    IF plan ? 'end' THEN
        condition := condition || format(' AND tokens < %L', plan->>'end');
    END IF;
    SELECT coalesce(array_agg(value), '{{}}') INTO texts FROM jsonb_array_elements_text(plan->'inside');
    condition := condition || format(' AND (confined_to IS NULL OR confined_to = ANY(%L::uuid[]))', texts);
    IF plan ? 'without' THEN
        SELECT array_agg(value) INTO texts FROM jsonb_array_elements_text(plan->'without');
        condition := condition || format(' AND request_id <> ALL(%L::uuid[])', texts);
    END IF;
    RETURN condition;
END $body$;

-- Up to `most` hits of a day in order. dense: of an entry, how much a hit it is, as far as other days told. floor: fewer
-- tokens are not asked for.
--
-- Words are looked up in GIN alone, which knows no order but that of slices. A big day's are asked for in groups, those
-- first in order first, until there are hits enough; when a group tells that hits are few, all others at once. The
-- planner could not know: to it, each day's hashes are new. No array is ever read: what must not be among the words is
-- a second lookup.
CREATE FUNCTION audit_search_day(
    wanted date, plan jsonb, sort text, most integer, dense float8 DEFAULT NULL, floor integer DEFAULT NULL
) RETURNS SETOF audit_search_hit
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off SET enable_bitmapscan = on SET jit = off
SET work_mem = '32MB' AS $body$
DECLARE
    part text := 'audit_search_entry_' || to_char(wanted, 'YYYYMMDD');
    columns text := 'request_id, day, kind, channel, user_label, group_ids, model, model_version, status, tokens, rules, risk';
    tenant uuid := {TENANT};
    words text := public.audit_search_words(plan);
    none text := nullif(translate(plan->>'none', '[]', '{{}}'), '{{}}');
    condition text := public.audit_search_condition(plan);
    in_order text;
    slices bigint[];
    bounds integer[];  -- The quarter of each slice, or the least tokens.
    at integer := 1;
    width integer := 1;
    slice_rows float8 := greatest((plan->>'rows')::float8 / 96, 1);
    asked text;
    without text := '';
    met integer;
    found integer := 0;
    seen integer := 0;
BEGIN
    IF to_regclass('public.' || part) IS NULL OR tenant IS NULL THEN
        RETURN;
    END IF;
    condition := format('tenant_id = %L AND day = %L AND request_id >= %L AND request_id < %L AND %s',
                        tenant, wanted, plan->>'low', plan->>'high', condition);
    IF sort = 'tokens' THEN
        in_order := 'tokens DESC, request_id DESC';
        IF plan ? 'after' THEN
            condition := condition || format(' AND (tokens, request_id) < (%L::integer, %L::uuid)',
                                             plan->>'after_tokens', plan->>'after');
        END IF;
        IF floor IS NOT NULL THEN
            condition := condition || format(' AND tokens >= %s', floor);
        END IF;
    ELSE
        in_order := CASE WHEN sort = 'oldest' THEN 'request_id' ELSE 'request_id DESC' END;
        IF plan ? 'after' THEN
            condition := condition || format(' AND request_id %s %L', CASE WHEN sort = 'oldest' THEN '>' ELSE '<' END,
                                             plan->>'after');
        END IF;
    END IF;
    IF plan ? 'slices' THEN
        slices := translate(plan->>'slices', '[]', '{{}}')::bigint[];
        bounds := translate(plan->>'bounds', '[]', '{{}}')::integer[];
    END IF;

    IF words IS NULL AND (none IS NULL OR slices IS NULL) THEN
        IF none IS NOT NULL THEN
            without := format(' AND request_id NOT IN (SELECT request_id FROM public.%I WHERE words && %L::bigint[])',
                              part, none);
        ELSE
            PERFORM set_config('enable_bitmapscan', 'off', true);
        END IF;
        RETURN QUERY EXECUTE format('SELECT %s FROM public.%I WHERE %s%s ORDER BY %s LIMIT %s',
                                    columns, part, condition, without, in_order, most);
        RETURN;
    END IF;

    IF sort = 'tokens' AND slices IS NOT NULL THEN
        EXECUTE format('SELECT tokens FROM public.%I WHERE tenant_id = %L ORDER BY tokens DESC LIMIT 1', part, tenant)
            INTO met;
        WHILE bounds[at] > met LOOP
            at := at + 1;
        END LOOP;
    END IF;
    LOOP
        asked := words;
        IF slices IS NOT NULL THEN
            EXIT WHEN at > cardinality(slices) OR bounds[at - 1] <= floor;
            IF sort = 'tokens' THEN
                width := CASE WHEN seen = 0 THEN 1 ELSE width * 4 END;
                WHILE bounds[at + width - 1] > floor LOOP
                    width := width + 1;
                END LOOP;
            ELSE
                width := greatest(ceil(
                    least(coalesce(1.3 * (most - found) / dense, (plan->>'stretch')::float8) / slice_rows, 96)), 1);
            END IF;
            IF asked IS NOT NULL AND dense * slice_rows * (cardinality(slices) - at + 1) <= 2 * greatest(most - found, 500)
            THEN
                width := cardinality(slices);
                IF seen > 0 THEN
                    condition := condition || CASE sort
                        WHEN 'oldest' THEN format(' AND request_id >= %L', public.audit_search_id(wanted, bounds[at - 1] + 1))
                        ELSE format(' AND request_id < %L', public.audit_search_id(wanted, bounds[at - 1])) END;
                END IF;
            ELSE
                asked := concat_ws(' AND ', asked, format('words && %L::bigint[]', slices[at:at + width - 1]));
            END IF;
        END IF;
        IF none IS NOT NULL THEN
            without := format(' AND request_id NOT IN (SELECT request_id FROM public.%I WHERE %s AND words && %L::bigint[])',
                              part, asked, none);
        END IF;
        -- Behind OFFSET 0, so that no index but that of words can be taken.
        RETURN QUERY EXECUTE format(
            'SELECT %s FROM (SELECT %1$s, tenant_id, keeping, confined_to FROM public.%I WHERE %s OFFSET 0) AS hits '
            'WHERE %s%s ORDER BY %s LIMIT %s', columns, part, asked, condition, without, in_order, most - found);
        GET DIAGNOSTICS met = ROW_COUNT;
        found := found + met;
        EXIT WHEN slices IS NULL OR found >= most;
        at := at + width;
        seen := seen + width;
        dense := CASE WHEN sort <> 'tokens' THEN (found + 1) / (slice_rows * seen) END;
    END LOOP;
END $body$;

-- The least id of a quarter of an hour of a day.
CREATE FUNCTION audit_search_id(wanted date, quarter integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT pg_catalog.rpad(pg_catalog.lpad(pg_catalog.to_hex(
        pg_catalog.date_part('epoch', wanted::timestamp)::bigint * 1000 + quarter * 900000
    ), 12, '0'), 32, '0')::uuid;
$$;

-- The hits of several days, in the order in which they are given; plans of one day stand together. Not more than `most`
-- when sorted by time: a day that is begun is then the last.
CREATE FUNCTION audit_search_hits(days date[], plans jsonb[], sort text, most integer) RETURNS SETOF audit_search_hit
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $body$
DECLARE
    hit public.audit_search_hit;
    met integer;
    found integer := 0;
    before integer := 0;  -- Found on the days before.
    rows float8 := 0;  -- Looked at by slices, and hits among them.
    hits integer := 0;
    dense float8;
    best integer[] := '{{}}';
BEGIN
    FOR place IN 1 .. coalesce(array_length(days, 1), 0) LOOP
        IF sort = 'tokens' THEN
            FOR hit IN SELECT * FROM public.audit_search_day(days[place], plans[place], sort, most, NULL, best[most]) LOOP
                RETURN NEXT hit;
                best := best || hit.tokens;
            END LOOP;
            best := array(SELECT tokens FROM unnest(best) AS tokens ORDER BY tokens DESC LIMIT most);
            CONTINUE;
        END IF;
        IF days[place] <> days[place - 1] THEN
            EXIT WHEN found >= most;
            before := found;
            dense := CASE WHEN rows >= greatest((plans[place]->>'stretch')::float8, 1) THEN (hits + 1) / rows END;
        END IF;
        RETURN QUERY SELECT * FROM public.audit_search_day(days[place], plans[place], sort, most - before, dense);
        GET DIAGNOSTICS met = ROW_COUNT;
        found := found + met;
        IF plans[place] ? 'slices' THEN
            rows := rows + (plans[place]->>'rows')::float8 * jsonb_array_length(plans[place]->'slices') / 96;
            hits := hits + met;
        END IF;
    END LOOP;
END $body$;
"""

_DAY = "audit_search_day(date, jsonb, text, integer, float8, integer)"
GRANTS = f"""
REVOKE ALL ON FUNCTION {_DAY} FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {_DAY} TO {APPLICATION_ROLE};
"""


def wait_for_all(apps, schema_editor):
    """All records wait to be indexed again. Tenant by tenant: an owner that is no superuser sees nothing else."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        for tenant_id in (
            apps.get_model("tenants", "Tenant").objects.using(connection.alias).values_list("id", flat=True)
        ):
            cursor.execute("SELECT set_config('custos.tenant', %s, true)", [str(tenant_id)])
            cursor.execute(
                "INSERT INTO audit_search_waiting (day, request_id, tenant_id) "
                "SELECT day, id, tenant_id FROM audit_record WHERE tenant_id = %s ON CONFLICT DO NOTHING",
                [tenant_id],
            )
        cursor.execute("SELECT set_config('custos.tenant', '', true)")


class Migration(migrations.Migration):
    dependencies = [("audit_search", "0002_index")]

    operations = [
        migrations.RunSQL(EMPTY + PARTITIONS + READING + GRANTS, migrations.RunSQL.noop),
        migrations.RunPython(wait_for_all, migrations.RunPython.noop),
    ]
