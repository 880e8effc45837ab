"""The record grows: adapter, deployment, what the model was given beside the input, and the case an event belongs to."""

from django.db import migrations, models

# Rows of before keep the leaf that they have: of schema 1, which knows none of the new fields.
COLUMNS = """
ALTER TABLE audit_record
    ADD COLUMN adapter text NOT NULL DEFAULT '',
    ADD COLUMN deployment text NOT NULL DEFAULT '',
    ADD COLUMN confined_to uuid,
    ADD COLUMN schema smallint NOT NULL DEFAULT 1,
    ADD COLUMN context bytea;
ALTER TABLE audit_record ALTER COLUMN schema SET DEFAULT 2;

CREATE OR REPLACE FUNCTION audit_ciphertexts(
    wanted date, request uuid, OUT chunk_count integer, OUT output_bytes bigint, OUT digest bytea
) LANGUAGE plpgsql AS $$
BEGIN
    WITH content AS (
        SELECT -2 AS place, context AS sealed, 0 AS size FROM public.audit_record
        WHERE day = wanted AND id = request AND context IS NOT NULL
        UNION ALL
        SELECT -1, input, 0 FROM public.audit_record WHERE day = wanted AND id = request
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
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_tables")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(COLUMNS, migrations.RunSQL.noop)],
            state_operations=[
                migrations.AddField("auditrecord", "adapter", models.TextField(default="")),
                migrations.AddField("auditrecord", "deployment", models.TextField(default="")),
                migrations.AddField("auditrecord", "confined_to", models.UUIDField(null=True)),
                migrations.AddField("auditrecord", "schema", models.SmallIntegerField(db_default=2)),
                migrations.AddField("auditrecord", "context", models.BinaryField(null=True)),
            ],
        ),
    ]
