from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0003_owners_of_keys")]

    operations = [
        migrations.AddField(
            model_name="invitation",
            name="sent",
            field=models.DateTimeField(
                editable=False, help_text="When its link went out by e-mail.", null=True
            ),
        ),
    ]
