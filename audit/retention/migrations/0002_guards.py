"""What may be destroyed and when, decided in the database: a captured application destroys nothing before its time."""

from django.db import migrations

from tenants.isolation import APPLICATION_ROLE

# The one clock of what may be destroyed. The application's role cannot move it.
CLOCK = """
CREATE FUNCTION audit_now() RETURNS timestamptz LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT clock_timestamp()
$$;

CREATE FUNCTION audit_tenant() RETURNS uuid LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT nullif(current_setting('custos.tenant', true), '')::uuid
$$;
"""

# As audit.record.keeping_of and handle_of have it.
POLICIES = """
CREATE FUNCTION audit_keeping(kind text, schema smallint) RETURNS text LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN schema = 1 OR kind IN ('generation', 'embedding') THEN 'audit'
                WHEN kind IN ('audit.read', 'audit.search', 'audit.export') THEN 'audit.readings'
                ELSE 'audit.changes' END
$$;

-- The policy that counts now, in the tenant's scope; NULL for what is no keeping. A newer policy takes the place of one
-- that has not taken effect.
CREATE FUNCTION audit_retention_days(wanted text) RETURNS integer LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(
        (SELECT policy.days FROM public.audit_retention_policy AS policy
         WHERE policy.tenant_id = public.audit_tenant() AND policy.keeping = wanted
           AND policy.effective <= public.audit_now()
           AND NOT EXISTS (
               SELECT FROM public.audit_retention_policy AS later
               WHERE later.tenant_id = policy.tenant_id AND later.keeping = policy.keeping
                 AND later.number > policy.number AND later.created < policy.effective)
         ORDER BY policy.number DESC LIMIT 1),
        CASE wanted WHEN 'audit' THEN 7 WHEN 'audit.changes' THEN 365 WHEN 'audit.readings' THEN 365 END)
$$;

CREATE FUNCTION audit_retention_due(wanted text, wanted_day date) RETURNS timestamptz LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT (wanted_day + 1 + public.audit_retention_days(wanted))::timestamp AT TIME ZONE 'UTC'
$$;

-- Due, and said a day before or confirmed: a clock that jumps ahead finds nothing announced.
CREATE FUNCTION audit_retention_ready(wanted text, wanted_day date) RETURNS boolean LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(public.audit_retention_due(wanted, wanted_day) <= public.audit_now(), false) AND EXISTS (
        SELECT FROM public.audit_retention_notice AS notice
        WHERE notice.tenant_id = public.audit_tenant() AND notice.keeping = wanted AND notice.day = wanted_day
          AND notice.announced <= public.audit_now()
              - CASE WHEN notice.confirmed_by IS NULL THEN interval '24 hours' ELSE interval '0' END)
$$;

CREATE FUNCTION audit_guard_policy() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_retention_policy ' || NEW.tenant_id, 0));
    present := public.audit_retention_days(NEW.keeping);
    IF present IS NULL OR NEW.tenant_id IS DISTINCT FROM public.audit_tenant() THEN
        RAISE EXCEPTION 'there is no such policy' USING ERRCODE = 'check_violation';
    END IF;
    NEW.created := public.audit_now();
    -- Who takes over the application in the night does not destroy evidence before somebody notices.
    NEW.effective := NEW.created + CASE WHEN NEW.days < present THEN interval '24 hours' ELSE interval '0' END;
    NEW.number := 1 + coalesce((SELECT max(number) FROM public.audit_retention_policy
                                WHERE tenant_id = NEW.tenant_id AND keeping = NEW.keeping), 0);
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON audit_retention_policy FOR EACH ROW EXECUTE FUNCTION audit_guard_policy();

CREATE FUNCTION audit_guard_notice() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.announced := public.audit_now();
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON audit_retention_notice FOR EACH ROW EXECUTE FUNCTION audit_guard_notice();

CREATE FUNCTION audit_guard_unfinished() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.created := public.audit_now();
    NEW.finished := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON audit_retention_tombstone
    FOR EACH ROW EXECUTE FUNCTION audit_guard_unfinished();
"""

# Two people, and a day between what they decided and what is done.
DEEDS = """
CREATE FUNCTION audit_guard_deed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.created := public.audit_now();
    NEW.done := NULL;
    NEW.count := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON audit_retention_deed FOR EACH ROW EXECUTE FUNCTION audit_guard_deed();

-- Until the end of the transaction: nobody decides the deed otherwise, and nobody does it.
CREATE FUNCTION audit_lock_deed(wanted uuid) RETURNS void LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('audit_retention_deed ' || wanted, 0))
$$;

CREATE FUNCTION audit_guard_verdict() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    deed record;
BEGIN
    PERFORM public.audit_lock_deed(NEW.deed_id);
    SELECT * INTO deed FROM public.audit_retention_deed
        WHERE tenant_id = public.audit_tenant() AND id = NEW.deed_id;
    IF NOT FOUND OR deed.done IS NOT NULL THEN
        RAISE EXCEPTION 'there is nothing to decide' USING ERRCODE = 'check_violation';
    END IF;
    IF EXISTS (SELECT FROM public.audit_retention_verdict
               WHERE tenant_id = NEW.tenant_id AND deed_id = NEW.deed_id
                 AND (outcome <> 'approved' OR NEW.outcome <> 'withdrawn')) THEN
        RAISE EXCEPTION 'it is decided already' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.outcome <> 'withdrawn' AND NEW.decided_by = deed.requested_by THEN
        RAISE EXCEPTION 'nobody decides what they asked for themselves' USING ERRCODE = 'check_violation';
    END IF;
    NEW.created := public.audit_now();
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON audit_retention_verdict
    FOR EACH ROW EXECUTE FUNCTION audit_guard_verdict();

CREATE FUNCTION audit_guard_hold() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.audit_be_durable();
    NEW.created := public.audit_now();
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON audit_hold FOR EACH ROW EXECUTE FUNCTION audit_guard_hold();

CREATE FUNCTION audit_deed_is_ready(wanted uuid) RETURNS boolean LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM public.audit_retention_deed AS deed JOIN public.audit_retention_verdict AS verdict
            ON verdict.deed_id = deed.id AND verdict.tenant_id = deed.tenant_id
        WHERE deed.id = wanted AND deed.tenant_id = public.audit_tenant() AND deed.done IS NULL
          AND verdict.outcome = 'approved' AND verdict.decided_by <> deed.requested_by
          AND verdict.created <= public.audit_now() - interval '24 hours'
    ) AND NOT EXISTS (
        SELECT FROM public.audit_retention_verdict
        WHERE tenant_id = public.audit_tenant() AND deed_id = wanted AND outcome <> 'approved')
$$;
"""

# All run as the owner, in the scope of a tenant and on its rows alone. They check for themselves, so it does not matter
# who calls them.
DESTROYING = """
-- Until the end of the transaction: nobody places a hold on a record of that day, and nobody lets the day go.
CREATE FUNCTION audit_lock_day(wanted_day date) RETURNS void LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('audit day ' || public.audit_tenant() || ' ' || wanted_day, 0))
$$;

CREATE FUNCTION audit_retention_delete(wanted text, wanted_day date) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    scope uuid := public.audit_tenant();
    covered bigint;
    gone uuid[];
BEGIN
    IF scope IS NULL THEN
        RAISE EXCEPTION 'the scope of the tenant is not open';
    END IF;
    PERFORM public.audit_lock_day(wanted_day);
    IF NOT public.audit_retention_ready(wanted, wanted_day) THEN
        RAISE EXCEPTION 'what is kept as % of % is not due', wanted, wanted_day;
    END IF;
    SELECT sum(count) INTO covered FROM public.audit_retention_tombstone
        WHERE tenant_id = scope AND keeping = wanted AND day = wanted_day AND finished IS NULL;
    IF covered IS NULL THEN
        RAISE EXCEPTION 'no tombstone stands for % of %', wanted, wanted_day;
    END IF;
    SELECT coalesce(array_agg(id), '{}') INTO gone FROM public.audit_record
        WHERE tenant_id = scope AND day = wanted_day AND public.audit_keeping(kind, schema) = wanted;
    IF cardinality(gone) <> covered THEN
        RAISE EXCEPTION 'the tombstones of % of % stand for % records, and there are %',
            wanted, wanted_day, covered, cardinality(gone);
    END IF;
    PERFORM public.audit_forget_words(scope, wanted_day, gone);
    DELETE FROM public.audit_chunk WHERE tenant_id = scope AND day = wanted_day AND request_id = ANY (gone);
    DELETE FROM public.audit_completion WHERE tenant_id = scope AND day = wanted_day AND request_id = ANY (gone);
    DELETE FROM public.audit_record WHERE tenant_id = scope AND day = wanted_day AND id = ANY (gone);
    DELETE FROM public.audit_erased WHERE tenant_id = scope AND request_id = ANY (gone);
    UPDATE public.audit_retention_tombstone SET finished = public.audit_now()
        WHERE tenant_id = scope AND keeping = wanted AND day = wanted_day AND finished IS NULL;
    RETURN cardinality(gone);
END $$;

-- What the search keeps of records.
CREATE FUNCTION audit_forget_words(scope uuid, wanted_day date, gone uuid[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF to_regclass('public.audit_search_entry') IS NOT NULL THEN
        -- First what waits: whoever is indexing it has taken it off the list, and is waited for here.
        DELETE FROM public.audit_search_waiting
            WHERE tenant_id = scope AND day = wanted_day AND request_id = ANY (gone);
        DELETE FROM public.audit_search_entry
            WHERE tenant_id = scope AND day = wanted_day AND request_id = ANY (gone);
    END IF;
END $$;

CREATE FUNCTION audit_erase(wanted uuid) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    scope uuid := public.audit_tenant();
    deed record;
    part record;
    erased bigint := 0;
BEGIN
    PERFORM public.audit_lock_deed(wanted);
    SELECT * INTO deed FROM public.audit_retention_deed WHERE tenant_id = scope AND id = wanted FOR UPDATE;
    IF NOT FOUND OR deed.kind <> 'erasure' OR NOT public.audit_deed_is_ready(wanted) THEN
        RAISE EXCEPTION 'this erasure is not decided, or its day of grace is not over';
    END IF;
    FOR part IN
        SELECT day, array_agg(id) AS ids FROM public.audit_record AS record
        WHERE tenant_id = scope AND user_id = deed.subject_id AND created < deed.created
          AND public.audit_keeping(kind, schema) = 'audit'
          AND EXISTS (SELECT FROM public.audit_completion AS completion
                      WHERE completion.day = record.day AND completion.request_id = record.id)
          AND NOT EXISTS (SELECT FROM public.audit_erased AS before
                          WHERE before.tenant_id = scope AND before.request_id = record.id)
        GROUP BY day ORDER BY day
    LOOP
        PERFORM public.audit_lock_day(part.day);
        PERFORM public.audit_forget_words(scope, part.day, part.ids);
        DELETE FROM public.audit_chunk
            WHERE tenant_id = scope AND day = part.day AND request_id = ANY (part.ids);
        UPDATE public.audit_record SET input = '', parameters = '', context = NULL
            WHERE tenant_id = scope AND day = part.day AND id = ANY (part.ids);
        IF deed.metadata = 'pseudonymised' THEN
            -- One pseudonym a deed, so that it still shows what belongs together.
            UPDATE public.audit_record
                SET user_id = deed.id, user_label = 'erased', api_key_id = NULL, session_ref = '',
                    client_address = '', conversation_id = NULL
                WHERE tenant_id = scope AND day = part.day AND id = ANY (part.ids);
        END IF;
        INSERT INTO public.audit_erased (id, tenant_id, deed_id, request_id, day)
            SELECT gen_random_uuid(), scope, deed.id, unnest(part.ids), part.day;
        erased := erased + cardinality(part.ids);
    END LOOP;
    UPDATE public.audit_retention_deed SET done = public.audit_now(), count = erased
        WHERE tenant_id = scope AND id = wanted;
    RETURN erased;
END $$;

CREATE FUNCTION audit_release(wanted uuid) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    scope uuid := public.audit_tenant();
    deed record;
    released bigint;
BEGIN
    PERFORM public.audit_lock_deed(wanted);
    SELECT * INTO deed FROM public.audit_retention_deed WHERE tenant_id = scope AND id = wanted FOR UPDATE;
    IF NOT FOUND OR deed.kind <> 'release' OR NOT public.audit_deed_is_ready(wanted) THEN
        RAISE EXCEPTION 'this release is not decided, or its day of grace is not over';
    END IF;
    DELETE FROM public.audit_hold
        WHERE tenant_id = scope AND case_id = deed.subject_id AND request_id = ANY (deed.request_ids)
          AND created < deed.created;
    GET DIAGNOSTICS released = ROW_COUNT;
    UPDATE public.audit_retention_deed SET done = public.audit_now(), count = released
        WHERE tenant_id = scope AND id = wanted;
    RETURN released;
END $$;

-- Asked by tenants_destroy_key. Whether a key's time is over: that of a day which may go, or of a case's copies of which none is left.
CREATE FUNCTION audit_may_destroy_key(wanted_purpose text, wanted_day date) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF wanted_purpose ~ '^case:[0-9a-f-]{36}:held$' THEN
        RETURN wanted_day < (public.audit_now() AT TIME ZONE 'UTC')::date AND NOT EXISTS (
            SELECT FROM public.audit_hold
            WHERE tenant_id = public.audit_tenant() AND key_day = wanted_day
              AND case_id = substr(wanted_purpose, 6, 36)::uuid);
    END IF;
    RETURN public.audit_retention_ready(wanted_purpose, wanted_day);
END $$;

-- Whether it was dropped: a day's partition of one table that is over and in which no tenant has a row.
CREATE FUNCTION audit_drop_empty(parent text, wanted_day date) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text := parent || '_' || to_char(wanted_day, 'YYYYMMDD');
    is_filled boolean;
BEGIN
    IF wanted_day >= (public.audit_now() AT TIME ZONE 'UTC')::date - 1 THEN
        RAISE EXCEPTION 'records of % may still come', wanted_day;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = to_regclass('public.' || quote_ident(parent))
                   AND inhrelid = to_regclass('public.' || quote_ident(part)))
       OR parent NOT IN ('audit_record', 'audit_chunk', 'audit_completion') THEN
        RETURN false;
    END IF;
    -- Nobody writes from here on; and the owner, who is no superuser everywhere, sees the rows of all tenants.
    PERFORM set_config('lock_timeout', '1s', true);
    EXECUTE format('ALTER TABLE public.%I NO FORCE ROW LEVEL SECURITY', part);
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', part) INTO is_filled;
    IF is_filled THEN
        EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', part);
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE public.%I', part);
    RETURN true;
END $$;
"""

_CALLED = (
    "audit_retention_delete(text, date)",
    "audit_erase(uuid)",
    "audit_release(uuid)",
    "audit_drop_empty(text, date)",
)
GRANTS = "".join(
    f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC; GRANT EXECUTE ON FUNCTION {function} TO {APPLICATION_ROLE};\n"
    for function in _CALLED
)

REMOVE = """
DROP TRIGGER guard ON audit_hold;
DROP TRIGGER guard ON audit_retention_verdict;
DROP TRIGGER guard ON audit_retention_deed;
DROP TRIGGER guard ON audit_retention_tombstone;
DROP TRIGGER guard ON audit_retention_notice;
DROP TRIGGER guard ON audit_retention_policy;
DROP FUNCTION audit_drop_empty(text, date), audit_may_destroy_key(text, date),
    audit_release(uuid), audit_erase(uuid), audit_forget_words(uuid, date, uuid[]), audit_retention_delete(text, date),
    audit_lock_day(date), audit_deed_is_ready(uuid), audit_guard_hold(), audit_guard_verdict(), audit_lock_deed(uuid),
    audit_guard_deed(),
    audit_guard_unfinished(), audit_guard_notice(), audit_guard_policy(), audit_retention_ready(text, date),
    audit_retention_due(text, date), audit_retention_days(text), audit_keeping(text, smallint), audit_tenant(),
    audit_now();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("audit_retention", "0001_tables"),
        ("audit", "0002_grown_record"),
        ("tenants", "0007_two_part_keys"),
    ]

    operations = [migrations.RunSQL(CLOCK + POLICIES + DEEDS + DESTROYING + GRANTS, REMOVE)]
