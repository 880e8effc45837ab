from django.db import migrations, models
from django.db.models import F


def take_as_proven(apps, schema_editor):  # type: ignore[no-untyped-def]
    """Accounts from before the proof was kept: nothing tells them apart, and none is locked out."""
    users = apps.get_model("tenants", "User").objects.using(schema_editor.connection.alias)
    users.update(email_verified=F("created"))


class Migration(migrations.Migration):
    dependencies = [("tenants", "0004_invitation_sent")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="email_verified",
            field=models.DateTimeField(
                editable=False,
                help_text="When the person proved that they read this address’s mail.",
                null=True,
            ),
        ),
        migrations.RunPython(take_as_proven, migrations.RunPython.noop),
        migrations.AddField(
            model_name="invitation",
            name="mailed_only",
            field=models.BooleanField(
                default=False,
                editable=False,
                help_text="Asked for by the person; its link is shown to nobody.",
            ),
        ),
        migrations.RemoveConstraint(model_name="invitation", name="one_open_invitation_an_address"),
        migrations.AddConstraint(
            model_name="invitation",
            constraint=models.UniqueConstraint(
                condition=models.Q(accepted=None, revoked=None),
                fields=("tenant", "email", "mailed_only"),
                name="one_open_invitation_an_address",
            ),
        ),
    ]
