from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="modelversion",
            name="kind",
            field=models.CharField(
                choices=[("text", "Text"), ("embedding", "Embedding")],
                default="text",
                help_text="What it makes of a text.",
                max_length=10,
                verbose_name="kind",
            ),
        ),
    ]
