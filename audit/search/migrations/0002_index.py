"""The index by SQL: partitioned by day, filled from a list of waiting records, read through functions."""

import django.db.models.deletion
from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

import tenants.models
from tenants.isolation import APPLICATION_ROLE, OWN_ROWS

TENANT = "nullif(current_setting('custos.tenant', true), '')::uuid"

# The arrays are looked at on the way through a day, and never compress: they are random.
TABLES = f"""
CREATE TABLE audit_search_entry (
    day date NOT NULL,
    request_id uuid NOT NULL,
    tenant_id uuid NOT NULL DEFAULT {TENANT},
    keeping text NOT NULL,
    kind text NOT NULL,
    channel text NOT NULL,
    user_id uuid,
    user_label text NOT NULL,
    group_ids uuid[] NOT NULL,
    model text NOT NULL,
    model_version text NOT NULL,
    status text NOT NULL,
    tokens integer NOT NULL,
    rules text[] NOT NULL,
    risk text NOT NULL,
    confined_to uuid,
    words bigint[] NOT NULL,
    PRIMARY KEY (tenant_id, day, request_id)
) PARTITION BY RANGE (day);
ALTER TABLE audit_search_entry ALTER COLUMN words SET STORAGE EXTERNAL;
CREATE INDEX audit_search_entry_by_word ON audit_search_entry USING gin (words);
CREATE INDEX audit_search_entry_by_tokens ON audit_search_entry (tenant_id, tokens, request_id);

CREATE TABLE audit_search_waiting (
    day date NOT NULL,
    request_id uuid NOT NULL,
    tenant_id uuid NOT NULL DEFAULT {TENANT},
    PRIMARY KEY (tenant_id, day, request_id)
);

-- With the record or not at all, so nothing is ever missing from both the index and this list.
CREATE FUNCTION audit_search_wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.audit_search_waiting (day, request_id, tenant_id) VALUES (NEW.day, NEW.id, NEW.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER wait_for_index AFTER INSERT ON audit_record FOR EACH ROW EXECUTE FUNCTION audit_search_wait();
"""

# A partition has a policy that does not bind its owner, and nobody else has rights on it: the parent's policy is the
# application's way in, and the functions below are the one other.
PARTITIONS = f"""
CREATE FUNCTION audit_search_ensure_partition(wanted date) RETURNS void
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
    -- Words stay in their row up to 8 KB: fetching them from elsewhere costs more than reading past them.
    EXECUTE format('CREATE TABLE public.%I (LIKE public.audit_search_entry INCLUDING ALL) '
                   'WITH (toast_tuple_target = 8160)', part);
    EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, {APPLICATION_ROLE}', part);
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', part);
    EXECUTE format('CREATE POLICY own_rows ON public.%I USING (%s) WITH CHECK (%2$s)', part, $own${OWN_ROWS}$own$);
    EXECUTE format('ALTER TABLE public.audit_search_entry ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                   part, wanted, wanted + 1);
END $body$;

-- Days of which there is an index, newest first.
CREATE FUNCTION audit_search_days() RETURNS date[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(pg_catalog.array_agg(day ORDER BY day DESC), '{{}}') FROM (
        SELECT pg_catalog.to_date(pg_catalog.right(relname, 8), 'YYYYMMDD') AS day
        FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'public.audit_search_entry'::regclass
    ) AS parts;
$$;

-- Takes entries of records that are gone out of the index; anything else stays, whoever calls. How many.
CREATE FUNCTION audit_search_forget(wanted date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $body$
DECLARE
    part text := 'audit_search_entry_' || to_char(wanted, 'YYYYMMDD');
    tenant uuid := {TENANT};
    forgotten bigint;
    is_empty boolean;
BEGIN
    IF to_regclass('public.' || part) IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('DELETE FROM public.%I AS entry WHERE tenant_id = %L AND NOT EXISTS '
                   '(SELECT FROM public.audit_record WHERE audit_record.day = %L AND id = entry.request_id)',
                   part, tenant, wanted);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    IF to_regclass('public.audit_record_' || to_char(wanted, 'YYYYMMDD')) IS NULL THEN
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM public.%I)', part) INTO is_empty;
        IF is_empty THEN
            EXECUTE format('DROP TABLE public.%I', part);
        END IF;
    END IF;
    RETURN forgotten;
END $body$;
"""

# Row-level security lets no operator on arrays near an index, because it may tell of rows that it should not (it is not
# "leakproof"), so every search by words would read whole days. These functions run as the owner, on one partition, and
# compare the tenant themselves. What they are given are values, never SQL.
READING = f"""
CREATE TYPE audit_search_hit AS (
    request_id uuid, day date, kind text, channel text, user_label text, group_ids uuid[], model text,
    model_version text, status text, tokens integer, rules text[], risk text
);

CREATE FUNCTION audit_search_condition(plan jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    condition text := format('keeping = %L', plan->>'keeping');
    clause jsonb;
    texts text[];
BEGIN
    IF jsonb_array_length(plan->'must') > 0 THEN
        condition := condition || format(' AND words @> %L::bigint[]', translate(plan->>'must', '[]', '{{}}'));
    END IF;
    FOR clause IN SELECT jsonb_array_elements(plan->'any') LOOP
        condition := condition || format(' AND words && %L::bigint[]', translate(clause::text, '[]', '{{}}'));
    END LOOP;
    IF jsonb_array_length(plan->'none') > 0 THEN
        condition := condition || format(' AND NOT words && %L::bigint[]', translate(plan->>'none', '[]', '{{}}'));
    END IF;
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

-- Up to `most` hits of a day in order. Where hits are dense they are met soon by walking through the day in order;
-- where they are rare, they are all taken from the index of words and put in order. The planner cannot know which, so
-- it is tried: a stretch is walked, and the way is left as soon as too few are met on it.
CREATE FUNCTION audit_search_day(wanted date, plan jsonb, sort text, most integer) RETURNS SETOF audit_search_hit
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off SET enable_bitmapscan = on SET enable_indexscan = on
SET jit = off SET work_mem = '32MB' AS $body$
DECLARE
    part text := 'audit_search_entry_' || to_char(wanted, 'YYYYMMDD');
    columns text := 'request_id, day, kind, channel, user_label, group_ids, model, model_version, status, tokens, rules, risk';
    condition text := public.audit_search_condition(plan);
    by_words boolean := jsonb_array_length(plan->'must') + jsonb_array_length(plan->'any') > 0;
    tenant uuid := {TENANT};
    place text := 'request_id';
    down text := CASE WHEN sort = 'oldest' THEN 'ASC' ELSE 'DESC' END;
    beyond text := CASE WHEN sort = 'oldest' THEN '>' ELSE '<' END;
    within text := CASE WHEN sort = 'oldest' THEN '<' ELSE '>' END;
    in_order text;
    rest text;
    stretch integer := 200;
    rows float8;  -- Of the day, about.
    met integer;
    found integer := 0;
    first_beyond text;
BEGIN
    IF to_regclass('public.' || part) IS NULL OR tenant IS NULL THEN
        RETURN;
    END IF;
    IF sort = 'tokens' THEN
        place := '(tokens, request_id)';
        in_order := 'tokens DESC, request_id DESC';
    ELSE
        in_order := 'request_id ' || down;
    END IF;
    rest := format('tenant_id = %L AND day = %L AND request_id >= %L AND request_id < %L',
                   tenant, wanted, plan->>'low', plan->>'high');
    IF plan ? 'after' THEN
        rest := rest || format(' AND %s %s ', place, beyond) || CASE WHEN sort = 'tokens'
            THEN format('(%L::integer, %L::uuid)', plan->>'after_tokens', plan->>'after')
            ELSE format('%L::uuid', plan->>'after') END;
    END IF;
    rows := pg_relation_size('public.' || part) / 2500.0;
    PERFORM set_config('enable_bitmapscan', 'off', true);
    WHILE by_words LOOP
        EXECUTE format('SELECT %s FROM public.%I WHERE %s ORDER BY %s OFFSET %s LIMIT 1',
                       CASE WHEN sort = 'tokens' THEN $$format('(%L::integer, %L::uuid)', tokens, request_id)$$
                            ELSE $$format('%L::uuid', request_id)$$ END,
                       part, rest, in_order, stretch) INTO first_beyond;
        EXIT WHEN first_beyond IS NULL;
        RETURN QUERY EXECUTE format(
            'SELECT %s FROM public.%I WHERE %s AND %s %s %s AND %s ORDER BY %s LIMIT %s',
            columns, part, rest, place, within, first_beyond, condition, in_order, most - found);
        GET DIAGNOSTICS met = ROW_COUNT;
        found := found + met;
        IF found >= most THEN
            RETURN;
        END IF;
        rest := rest || format(' AND %s %s= %s', place, beyond, first_beyond);
        IF (most - found) * 1.5 * stretch * stretch > met::float8 * met * rows THEN
            -- Behind OFFSET 0, so that no index but that of words can be taken: by time it would be the whole day again.
            PERFORM set_config('enable_bitmapscan', 'on', true);
            PERFORM set_config('enable_indexscan', 'off', true);
            RETURN QUERY EXECUTE format(
                'SELECT %s FROM (SELECT %1$s, tenant_id FROM public.%I WHERE %s OFFSET 0) AS hits '
                'WHERE %s ORDER BY %s LIMIT %s', columns, part, condition, rest, in_order, most - found);
            RETURN;
        END IF;
        stretch := least(stretch * 5, 20000);
    END LOOP;
    RETURN QUERY EXECUTE format('SELECT %s FROM public.%I WHERE %s AND %s ORDER BY %s LIMIT %s',
                                columns, part, rest, condition, in_order, most - found);
END $body$;

-- The hits of several days, in the order in which they are given; plans of one day stand together. Not more than `most`
-- when sorted by time: a day that is begun is then the last.
CREATE FUNCTION audit_search_hits(days date[], plans jsonb[], sort text, most integer) RETURNS SETOF audit_search_hit
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $body$
DECLARE
    met integer;
    found integer := 0;
BEGIN
    FOR place IN 1 .. coalesce(array_length(days, 1), 0) LOOP
        EXIT WHEN sort <> 'tokens' AND found >= most AND days[place] <> days[place - 1];
        RETURN QUERY SELECT * FROM public.audit_search_day(days[place], plans[place], sort, most);
        GET DIAGNOSTICS met = ROW_COUNT;
        found := found + met;
    END LOOP;
END $body$;
"""

GRANTS = f"""
REVOKE ALL ON FUNCTION audit_search_ensure_partition(date), audit_search_forget(date),
    audit_search_day(date, jsonb, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_search_ensure_partition(date), audit_search_forget(date),
    audit_search_day(date, jsonb, text, integer) TO {APPLICATION_ROLE};
"""

REMOVE = """
DROP TRIGGER wait_for_index ON audit_record;
DROP FUNCTION audit_search_wait();
DROP FUNCTION audit_search_hits(date[], jsonb[], text, integer);
DROP FUNCTION audit_search_day(date, jsonb, text, integer);
DROP FUNCTION audit_search_condition(jsonb);
DROP TYPE audit_search_hit;
DROP FUNCTION audit_search_forget(date);
DROP FUNCTION audit_search_days();
DROP FUNCTION audit_search_ensure_partition(date);
DROP TABLE audit_search_waiting, audit_search_entry;
"""


def wait_for_all(apps, schema_editor):
    """Records of before wait to be indexed. Tenant by tenant: an owner that is no superuser sees nothing else."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        for tenant_id in (
            apps.get_model("tenants", "Tenant").objects.using(connection.alias).values_list("id", flat=True)
        ):
            cursor.execute("SELECT set_config('custos.tenant', %s, true)", [str(tenant_id)])
            cursor.execute(
                "INSERT INTO audit_search_waiting (day, request_id, tenant_id) "
                "SELECT day, id, tenant_id FROM audit_record WHERE tenant_id = %s",
                [tenant_id],
            )
        cursor.execute("SELECT set_config('custos.tenant', '', true)")


def tenant() -> models.ForeignKey:
    return models.ForeignKey(
        db_constraint=False,
        db_default=tenants.models.CurrentTenant(),
        db_index=False,
        editable=False,
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        to="tenants.tenant",
    )


def key() -> models.CompositePrimaryKey:
    return models.CompositePrimaryKey(
        "day", "request_id", blank=True, editable=False, primary_key=True, serialize=False
    )


class Migration(migrations.Migration):
    dependencies = [("audit_search", "0001_saved_searches"), ("audit", "0002_grown_record")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(TABLES + PARTITIONS + READING + GRANTS, REMOVE)],
            state_operations=[
                migrations.CreateModel(
                    name="SearchEntry",
                    fields=[
                        ("day", models.DateField()),
                        ("pk", key()),
                        ("request_id", models.UUIDField()),
                        ("tenant", tenant()),
                        ("keeping", models.TextField()),
                        ("kind", models.TextField()),
                        ("channel", models.TextField()),
                        ("user_id", models.UUIDField(null=True)),
                        ("user_label", models.TextField()),
                        ("group_ids", ArrayField(models.UUIDField())),
                        ("model", models.TextField()),
                        ("model_version", models.TextField()),
                        ("status", models.TextField()),
                        ("tokens", models.IntegerField()),
                        ("rules", ArrayField(models.TextField())),
                        ("risk", models.TextField()),
                        ("confined_to", models.UUIDField(null=True)),
                        ("words", ArrayField(models.BigIntegerField())),
                    ],
                    options={"db_table": "audit_search_entry"},
                ),
                migrations.CreateModel(
                    name="SearchWaiting",
                    fields=[
                        ("day", models.DateField()),
                        ("pk", key()),
                        ("request_id", models.UUIDField()),
                        ("tenant", tenant()),
                    ],
                    options={"db_table": "audit_search_waiting"},
                ),
            ],
        ),
        migrations.RunPython(wait_for_all, migrations.RunPython.noop),
    ]
