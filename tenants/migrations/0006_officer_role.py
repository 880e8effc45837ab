"""A role for compliance officers; purposes of keys may be longer."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0005_proof_of_address"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="customrole",
            name="custom_role_is_no_built_in_one",
        ),
        migrations.AlterField(
            model_name="datakey",
            name="purpose",
            field=models.CharField(max_length=64),
        ),
        migrations.AddConstraint(
            model_name="customrole",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "slug__in",
                        [
                            "owner",
                            "administrator",
                            "operator",
                            "curator",
                            "member",
                            "reviewer",
                            "officer",
                            "auditor",
                        ],
                    ),
                    _negated=True,
                ),
                name="custom_role_is_no_built_in_one",
            ),
        ),
    ]
