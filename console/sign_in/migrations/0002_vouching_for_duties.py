from django.db import migrations, models


class Migration(migrations.Migration):
    """Whether an identity provider may speak for people who administer or review."""

    dependencies = [("sign_in", "0001_identity_providers")]

    operations = [
        migrations.AddField(
            model_name="identityprovider",
            name="vouches_for_duties",
            field=models.BooleanField(
                default=False, verbose_name="vouch for administrators and reviewers too"
            ),
        ),
    ]
