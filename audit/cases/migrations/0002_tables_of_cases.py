from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit_cases", "0001_tables")]

    operations = [
        migrations.AlterField(
            model_name="casereading",
            name="how",
            field=models.CharField(
                choices=[
                    ("listed", "Saw it in the list"),
                    ("viewed", "Opened the case"),
                    ("file", "Downloaded a file"),
                    ("report", "Made a report"),
                    ("bundle", "Exported with proof"),
                    ("table", "Exported in a list of cases"),
                ],
                max_length=10,
            ),
        ),
    ]
