"""The audit tables by SQL: partitioned by day, guarded by triggers, partitions made by one function."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.clock
import tenants.models
from tenants.isolation import APPLICATION_ROLE, OWN_ROWS

TABLES = """
CREATE TABLE audit_record (
    day date NOT NULL,
    id uuid NOT NULL,
    tenant_id uuid NOT NULL DEFAULT nullif(current_setting('custos.tenant', true), '')::uuid,
    kind text NOT NULL,
    channel text NOT NULL,
    user_id uuid,
    user_label text NOT NULL,
    api_key_id uuid,
    session_ref text NOT NULL,
    model text NOT NULL,
    model_version text NOT NULL,
    route text NOT NULL,
    route_reason text NOT NULL,
    client_address text NOT NULL,
    conversation_id uuid,
    subject_id uuid,
    created timestamptz NOT NULL,
    input bytea NOT NULL,
    parameters bytea NOT NULL,
    PRIMARY KEY (day, id)
) PARTITION BY RANGE (day);

-- Lists and figures walk a tenant's records by time; the day in front lets partitions be read one after the other.
CREATE INDEX audit_record_by_time ON audit_record (tenant_id, day, id);
CREATE INDEX audit_record_by_subject ON audit_record (tenant_id, subject_id) WHERE subject_id IS NOT NULL;

CREATE TABLE audit_chunk (
    day date NOT NULL,
    request_id uuid NOT NULL,
    seq integer NOT NULL CHECK (seq >= 1),
    tenant_id uuid NOT NULL DEFAULT nullif(current_setting('custos.tenant', true), '')::uuid,
    size integer NOT NULL CHECK (size >= 0),
    sealed bytea NOT NULL,
    created timestamptz NOT NULL,
    PRIMARY KEY (day, request_id, seq)
) PARTITION BY RANGE (day);

CREATE TABLE audit_completion (
    day date NOT NULL,
    request_id uuid NOT NULL,
    tenant_id uuid NOT NULL DEFAULT nullif(current_setting('custos.tenant', true), '')::uuid,
    status text NOT NULL CHECK (status IN
        ('completed', 'stopped', 'disconnected', 'interrupted', 'failed', 'timed_out', 'refused')),
    finish_reason text NOT NULL,
    error_code text NOT NULL,
    prompt_tokens integer,
    completion_tokens integer,
    cached_tokens integer,
    queue_ms integer,
    ttft_ms integer,
    total_ms integer,
    itl_p50_ms double precision,
    chunk_count integer NOT NULL,
    output_bytes bigint NOT NULL,
    ciphertext_digest bytea NOT NULL CHECK (octet_length(ciphertext_digest) = 32),
    leaf_digest bytea NOT NULL CHECK (octet_length(leaf_digest) = 32),
    created timestamptz NOT NULL,
    PRIMARY KEY (day, request_id)
) PARTITION BY RANGE (day);
"""

# What no single row can promise: chunks follow each other without gaps, and nothing is added to a closed record. The
# lock makes it hold between processes; the triggers see the tenant's rows only, so nobody adds to another's record.
GUARDS = """
CREATE FUNCTION audit_lock(request_id uuid) RETURNS void LANGUAGE sql AS $$
    SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(request_id::text, 0));
$$;

CREATE FUNCTION audit_be_durable() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Whatever the session, role or server say: a committed audit row is on disk.
    IF pg_catalog.current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;
END $$;

CREATE FUNCTION audit_guard_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.audit_be_durable();
    RETURN NEW;
END $$;

CREATE FUNCTION audit_guard_chunk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.audit_be_durable();
    PERFORM public.audit_lock(NEW.request_id);
    IF EXISTS (SELECT FROM public.audit_completion WHERE day = NEW.day AND request_id = NEW.request_id) THEN
        RAISE EXCEPTION 'audit record % is closed', NEW.request_id USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.seq = 1 THEN
        IF NOT EXISTS (SELECT FROM public.audit_record WHERE day = NEW.day AND id = NEW.request_id) THEN
            RAISE EXCEPTION 'there is no audit record %', NEW.request_id USING ERRCODE = 'check_violation';
        END IF;
    ELSIF NOT EXISTS (SELECT FROM public.audit_chunk
                      WHERE day = NEW.day AND request_id = NEW.request_id AND seq = NEW.seq - 1) THEN
        RAISE EXCEPTION 'chunk % of audit record % has no chunk before it', NEW.seq, NEW.request_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION audit_guard_completion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.audit_be_durable();
    PERFORM public.audit_lock(NEW.request_id);
    IF NOT EXISTS (SELECT FROM public.audit_record WHERE day = NEW.day AND id = NEW.request_id) THEN
        RAISE EXCEPTION 'there is no audit record %', NEW.request_id USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.chunk_count <> (SELECT count(*) FROM public.audit_chunk
                           WHERE day = NEW.day AND request_id = NEW.request_id) THEN
        RAISE EXCEPTION 'audit record % has not % chunks', NEW.request_id, NEW.chunk_count
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard BEFORE INSERT ON audit_record FOR EACH ROW EXECUTE FUNCTION audit_guard_record();
CREATE TRIGGER guard BEFORE INSERT ON audit_chunk FOR EACH ROW EXECUTE FUNCTION audit_guard_chunk();
CREATE TRIGGER guard BEFORE INSERT ON audit_completion FOR EACH ROW EXECUTE FUNCTION audit_guard_completion();
"""

# In the database because its plans are kept there: a plan over partitions costs more than running it. In the digest each
# ciphertext is preceded by its length, so that no boundary between two of them can be moved unnoticed.
CLOSING = """
CREATE FUNCTION audit_ciphertexts(
    wanted date, request uuid, OUT chunk_count integer, OUT output_bytes bigint, OUT digest bytea
) LANGUAGE plpgsql AS $$
BEGIN
    WITH content AS (
        SELECT -1 AS place, input AS sealed, 0 AS size FROM public.audit_record WHERE day = wanted AND id = request
        UNION ALL
        SELECT 0, parameters, 0 FROM public.audit_record WHERE day = wanted AND id = request
        UNION ALL
        SELECT seq, sealed, size FROM public.audit_chunk WHERE day = wanted AND request_id = request
    )
    SELECT count(*) FILTER (WHERE place > 0), coalesce(sum(size), 0),
           sha256(string_agg(int8send(octet_length(sealed)) || sealed, '' ORDER BY place))
    INTO chunk_count, output_bytes, digest
    FROM content;
END $$;

-- Until the end of the transaction no other process appends to the record or closes it.
CREATE FUNCTION audit_start_closing(
    wanted date, request uuid,
    OUT is_closed boolean, OUT chunk_count integer, OUT output_bytes bigint, OUT digest bytea
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.audit_lock(request);
    is_closed := EXISTS (SELECT FROM public.audit_completion WHERE day = wanted AND request_id = request);
    SELECT found.* INTO chunk_count, output_bytes, digest FROM public.audit_ciphertexts(wanted, request) AS found;
END $$;
"""

# Attaching a finished table waits for no reader or writer of the others, as CREATE TABLE … PARTITION OF would. The
# partition gets a wall of its own, and the application's role no rights on it: the parent is the one way in.
PARTITIONS = f"""
CREATE FUNCTION audit_ensure_partition(wanted date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $body$
DECLARE
    utc_today date := (now() AT TIME ZONE 'UTC')::date;
    parent text;
    part text;
BEGIN
    IF wanted IS NULL OR wanted NOT BETWEEN utc_today - 1 AND utc_today + 7 THEN
        RAISE EXCEPTION 'no audit partition for %: it is not near today, %', wanted, utc_today
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Compare the clocks of this machine and PostgreSQL.';
    END IF;
    IF to_regclass('public.audit_completion_' || to_char(wanted, 'YYYYMMDD')) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_ensure_partition', 0));
    FOREACH parent IN ARRAY ARRAY['audit_record', 'audit_chunk', 'audit_completion'] LOOP
        part := parent || '_' || to_char(wanted, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('public.' || part) IS NOT NULL;
        EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL)', part, parent);
        EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, {APPLICATION_ROLE}', part);
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', part);
        EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', part);
        EXECUTE format('CREATE POLICY own_rows ON public.%I USING (%s) WITH CHECK (%2$s)', part, $own${OWN_ROWS}$own$);
        EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                       parent, part, wanted, wanted + 1);
    END LOOP;
END $body$;

REVOKE ALL ON FUNCTION audit_ensure_partition(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_ensure_partition(date) TO {APPLICATION_ROLE};
"""

REMOVE = """
DROP TABLE audit_record, audit_chunk, audit_completion;
DROP FUNCTION audit_ensure_partition(date);
DROP FUNCTION audit_start_closing(date, uuid);
DROP FUNCTION audit_ciphertexts(date, uuid);
DROP FUNCTION audit_guard_record();
DROP FUNCTION audit_guard_chunk();
DROP FUNCTION audit_guard_completion();
DROP FUNCTION audit_be_durable();
DROP FUNCTION audit_lock(uuid);
"""


STATUSES = [
    ("completed", "Completed"),
    ("stopped", "Stopped"),
    ("disconnected", "Disconnected"),
    ("interrupted", "Interrupted"),
    ("failed", "Failed"),
    ("timed_out", "Timed out"),
    ("refused", "Refused"),
]


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


class Migration(migrations.Migration):
    initial = True

    dependencies = [("tenants", "0001_initial")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(TABLES + GUARDS + CLOSING + PARTITIONS, REMOVE)],
            state_operations=[
                migrations.CreateModel(
                    name="AuditRecord",
                    fields=[
                        ("day", models.DateField()),
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "day", "id", blank=True, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("id", models.UUIDField(editable=False)),
                        ("tenant", tenant()),
                        ("kind", models.TextField()),
                        ("channel", models.TextField()),
                        ("user_id", models.UUIDField(null=True)),
                        ("user_label", models.TextField()),
                        ("api_key_id", models.UUIDField(null=True)),
                        ("session_ref", models.TextField()),
                        ("model", models.TextField()),
                        ("model_version", models.TextField()),
                        ("route", models.TextField()),
                        ("route_reason", models.TextField()),
                        ("client_address", models.TextField()),
                        ("conversation_id", models.UUIDField(null=True)),
                        ("subject_id", models.UUIDField(null=True)),
                        ("created", models.DateTimeField()),
                        ("input", models.BinaryField()),
                        ("parameters", models.BinaryField()),
                    ],
                    options={"db_table": "audit_record"},
                ),
                migrations.CreateModel(
                    name="AuditChunk",
                    fields=[
                        ("day", models.DateField()),
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "day",
                                "request_id",
                                "seq",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("request_id", models.UUIDField()),
                        ("seq", models.IntegerField()),
                        ("tenant", tenant()),
                        ("size", models.IntegerField()),
                        ("sealed", models.BinaryField()),
                        ("created", models.DateTimeField(default=tenants.clock.now)),
                    ],
                    options={"db_table": "audit_chunk"},
                ),
                migrations.CreateModel(
                    name="AuditCompletion",
                    fields=[
                        ("day", models.DateField()),
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "day",
                                "request_id",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("request_id", models.UUIDField()),
                        ("tenant", tenant()),
                        ("status", models.TextField(choices=STATUSES)),
                        ("finish_reason", models.TextField()),
                        ("error_code", models.TextField()),
                        ("prompt_tokens", models.IntegerField(null=True)),
                        ("completion_tokens", models.IntegerField(null=True)),
                        ("cached_tokens", models.IntegerField(null=True)),
                        ("queue_ms", models.IntegerField(null=True)),
                        ("ttft_ms", models.IntegerField(null=True)),
                        ("total_ms", models.IntegerField(null=True)),
                        ("itl_p50_ms", models.FloatField(null=True)),
                        ("chunk_count", models.IntegerField()),
                        ("output_bytes", models.BigIntegerField()),
                        ("ciphertext_digest", models.BinaryField()),
                        ("leaf_digest", models.BinaryField()),
                        ("created", models.DateTimeField(default=tenants.clock.now)),
                    ],
                    options={"db_table": "audit_completion"},
                ),
            ],
        ),
    ]
