"""What a sample was drawn from is known for as long as its records are, and no longer."""

from django.db import migrations

from tenants.isolation import APPLICATION_ROLE

FORGET = f"""
-- Empties the populations of the tenant's runs of whose days no request is left; how many. Oldest first, up to the first
-- of which some are.
CREATE FUNCTION audit_forget_populations() RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    scope uuid := public.audit_tenant();
    run record;
    forgotten bigint := 0;
BEGIN
    IF scope IS NULL THEN
        RAISE EXCEPTION 'the scope of the tenant is not open';
    END IF;
    FOR run IN SELECT id, since, until FROM public.audit_review_samplerun
        WHERE tenant_id = scope AND population <> '' ORDER BY until, id
    LOOP
        EXIT WHEN EXISTS (
            SELECT FROM public.audit_record
            WHERE tenant_id = scope AND kind IN ('generation', 'embedding')
              AND day BETWEEN (run.since AT TIME ZONE 'UTC')::date
                          AND ((run.until - interval '1 microsecond') AT TIME ZONE 'UTC')::date);
        UPDATE public.audit_review_samplerun SET population = '', strata = ''
            WHERE tenant_id = scope AND id = run.id;
        forgotten := forgotten + 1;
    END LOOP;
    RETURN forgotten;
END $$;
REVOKE ALL ON FUNCTION audit_forget_populations() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_forget_populations() TO {APPLICATION_ROLE};
"""


class Migration(migrations.Migration):
    dependencies = [("audit_review", "0001_tables"), ("audit_retention", "0002_guards")]

    operations = [migrations.RunSQL(FORGET, "DROP FUNCTION audit_forget_populations()")]
