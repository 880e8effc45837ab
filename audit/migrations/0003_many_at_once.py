"""Records of many requests are closed in one statement, and the guards keep their plans."""

from django.db import migrations

# Of each request, in the order asked: what `audit_start_closing` tells, and the intent's plain columns. Their ids must be
# in an order that is the same for everybody, since each is locked until the end of the transaction.
CLOSING = """
CREATE FUNCTION audit_start_closing(wanted date[], requests uuid[]) RETURNS TABLE (
    is_closed boolean, chunk_count integer, output_bytes bigint, digest bytea,
    tenant_id uuid, id uuid, day date, kind text, channel text, user_id uuid, user_label text, api_key_id uuid,
    session_ref text, model text, model_version text, route text, route_reason text, client_address text,
    conversation_id uuid, subject_id uuid, created timestamptz, adapter text, deployment text, confined_to uuid,
    schema smallint
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    FOR place IN 1 .. cardinality(requests) LOOP
        PERFORM public.audit_lock(requests[place]);
        RETURN QUERY
            SELECT EXISTS (SELECT FROM public.audit_completion AS ended
                           WHERE ended.day = wanted[place] AND ended.request_id = requests[place]),
                   found.chunk_count, found.output_bytes, found.digest,
                   intent.tenant_id, intent.id, intent.day, intent.kind, intent.channel, intent.user_id,
                   intent.user_label, intent.api_key_id, intent.session_ref, intent.model, intent.model_version,
                   intent.route, intent.route_reason, intent.client_address, intent.conversation_id, intent.subject_id,
                   intent.created, intent.adapter, intent.deployment, intent.confined_to, intent.schema
            FROM public.audit_ciphertexts(wanted[place], requests[place]) AS found
            LEFT JOIN public.audit_record AS intent ON intent.day = wanted[place] AND intent.id = requests[place];
    END LOOP;
END $$;
DROP FUNCTION audit_start_closing(date, uuid);
"""

# A plan of one's own for each row seems cheaper to PostgreSQL than one over all partitions, of which a day's is then the
# only one read; but making it costs more than the reading.
PLANS = """
ALTER FUNCTION audit_guard_chunk() SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION audit_guard_completion() SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION audit_ciphertexts(date, uuid) SET plan_cache_mode = force_generic_plan;
"""

REMOVE = """
DROP FUNCTION audit_start_closing(date[], uuid[]);
CREATE FUNCTION audit_start_closing(
    wanted date, request uuid,
    OUT is_closed boolean, OUT chunk_count integer, OUT output_bytes bigint, OUT digest bytea
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.audit_lock(request);
    is_closed := EXISTS (SELECT FROM public.audit_completion WHERE day = wanted AND request_id = request);
    SELECT found.* INTO chunk_count, output_bytes, digest FROM public.audit_ciphertexts(wanted, request) AS found;
END $$;
ALTER FUNCTION audit_guard_chunk() RESET plan_cache_mode;
ALTER FUNCTION audit_guard_completion() RESET plan_cache_mode;
ALTER FUNCTION audit_ciphertexts(date, uuid) RESET plan_cache_mode;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_grown_record")]

    operations = [migrations.RunSQL(CLOSING + PLANS, REMOVE)]
