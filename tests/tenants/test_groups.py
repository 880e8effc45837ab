"""Groups hold people and other groups, in no circle, and nobody of another tenant."""

import uuid
from collections.abc import Callable

import pytest

from tenants import groups
from tenants.actors import NotVisible
from tenants.errors import Refused
from tenants.models import Group, GroupMember, Membership, User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.tenants.conftest import at_once, membership_of, no_change, one_change, program, refused


@pytest.fixture
def make(acme: Company) -> Callable[..., Group]:
    """A group of Acme's, made by its administrator."""

    def create(name: str, parent: Group | None = None, **more: object) -> Group:
        parent_id = parent.pk if parent else None
        return groups.create_group(
            actor=acme.actor(acme.administrator), name=name, parent_id=parent_id, **more
        )

    return create


def everyone_of(company: Company) -> Group:
    with tenant_scope(company.tenant.pk):
        return Group.objects.get(is_everyone=True)


def test_a_group_is_made_changed_and_deleted_on_the_record(acme: Company) -> None:
    administrator, member = acme.actor(acme.administrator), membership_of(acme, acme.member).pk
    with one_change(acme, "group.created") as found:
        top = groups.create_group(actor=administrator, name="Bank")
    with one_change(acme, "group.created") as found:
        group = groups.create_group(
            actor=administrator,
            name=" Risk ",
            description="Of the bank",
            parent_id=top.pk,
            external_id="g1",
            membership_ids=[member],
        )
    shown = {"name": "Risk", "description": "Of the bank", "parent": "Bank", "external_id": "g1"}
    assert (found[0].after, found[0].subject_id) == ({**shown, "members": [acme.member.email]}, group.pk)
    with one_change(acme, "group.changed") as found:
        groups.update_group(actor=administrator, group_id=group.pk, name="Risks", parent_id=None)
    assert found[0].before == {"name": "Risk", "parent": "Bank"}
    assert found[0].after == {"name": "Risks", "parent": ""}
    with no_change(acme):
        groups.update_group(actor=administrator, group_id=group.pk, name="Risks")
    with one_change(acme, "group.deleted") as found:
        groups.delete_group(actor=administrator, group_id=group.pk)
    assert found[0].before["members"] == [acme.member.email]
    with tenant_scope(acme.tenant.pk):
        assert not GroupMember.objects.exists()


def test_people_come_into_a_group_and_go(acme: Company, make: Callable[..., Group]) -> None:
    administrator, group = acme.actor(acme.administrator), make("Risk")
    member, curator = (membership_of(acme, each).pk for each in (acme.member, acme.curator))
    with one_change(acme, "group.members_added") as found:
        assert groups.add_members(actor=administrator, group_id=group.pk, membership_ids=[member]) == 1
    assert found[0].after == {"members": [acme.member.email]}
    both = [member, curator, curator]
    assert groups.add_members(actor=administrator, group_id=group.pk, membership_ids=both) == 1
    with no_change(acme):
        assert groups.add_members(actor=administrator, group_id=group.pk, membership_ids=both) == 0
        assert groups.add_members(actor=administrator, group_id=group.pk, membership_ids=[]) == 0
    with one_change(acme, "group.members_removed") as found:
        assert groups.remove_members(actor=administrator, group_id=group.pk, membership_ids=[member]) == 1
    assert found[0].before == {"members": [acme.member.email]}
    with no_change(acme):
        assert groups.remove_members(actor=administrator, group_id=group.pk, membership_ids=[member]) == 0


def test_whoever_is_in_a_group_is_in_those_above_and_in_everyones(
    acme: Company, make: Callable[..., Group]
) -> None:
    top = make("Top")
    middle = make("Middle", top)
    low, apart = make("Low", middle), make("Apart")
    member = membership_of(acme, acme.member)
    groups.add_members(actor=acme.actor(acme.administrator), group_id=low.pk, membership_ids=[member.pk])
    everyone = everyone_of(acme)
    with tenant_scope(acme.tenant.pk):
        assert groups.group_ids_of(acme.member.pk) == {top.pk, middle.pk, low.pk, everyone.pk}
        assert groups.group_ids_of(acme.curator.pk) == groups.group_ids_of(None) == {everyone.pk}
        assert groups.groups_below(middle.pk) == {middle.pk, low.pk}
        assert [each.pk for each in groups.members_of(top)] == [member.pk]
        assert list(groups.members_of(apart)) == []
        assert groups.members_of(everyone).count() == 8
        Membership.objects.filter(pk=member.pk).update(disabled=member.created)
        assert groups.group_ids_of(acme.member.pk) == {everyone.pk}


# --- Circles -----------------------------------------------------------------------------------


def test_groups_stand_in_no_circle(acme: Company, make: Callable[..., Group]) -> None:
    top = make("Top")
    middle = make("Middle", top)
    low = make("Low", middle)
    with no_change(acme):
        for parent in (top, middle, low):
            with refused("group_cycle", "parent_id"):
                groups.update_group(
                    actor=acme.actor(acme.administrator), group_id=top.pk, parent_id=parent.pk
                )


@pytest.mark.django_db(transaction=True)
def test_two_moves_at_once_close_no_circle(acme: Company, make: Callable[..., Group]) -> None:
    one, other = make("One"), make("Other")
    administrator, owner = acme.actor(acme.administrator), acme.actor(acme.owner)
    results = at_once(
        lambda: groups.update_group(actor=administrator, group_id=one.pk, parent_id=other.pk),
        lambda: groups.update_group(actor=owner, group_id=other.pk, parent_id=one.pk),
    )
    assert [each.code for each in results if isinstance(each, Refused)] == ["group_cycle"], results
    with tenant_scope(acme.tenant.pk):
        assert Group.objects.exclude(parent=None).count() == 1


def test_groups_stand_in_no_tower_either(acme: Company, make: Callable[..., Group]) -> None:
    tower = [make("0")]
    for number in range(1, groups.DEEPEST):
        tower.append(make(str(number), tower[-1]))
    with no_change(acme), refused("group_too_deep", "parent_id"):
        make("more", tower[-1])
    pair = make("pair")
    make("below", pair)
    with no_change(acme), refused("group_too_deep", "parent_id"):
        groups.update_group(actor=acme.actor(acme.owner), group_id=pair.pk, parent_id=tower[-2].pk)
    groups.update_group(actor=acme.actor(acme.owner), group_id=pair.pk, parent_id=tower[-3].pk)


# --- What is refused ---------------------------------------------------------------------------


def test_a_group_with_others_below_stays(acme: Company, make: Callable[..., Group]) -> None:
    top = make("Top")
    make("Low", top)
    with no_change(acme), refused("group_has_children"):
        groups.delete_group(actor=acme.actor(acme.administrator), group_id=top.pk)


def test_two_groups_of_one_name_are_none(acme: Company, north: Company, make: Callable[..., Group]) -> None:
    make("Risk")
    other = make("Other")
    with no_change(acme):
        for name in ("Risk", " rISK ", "everyone"):
            with refused("name_taken", "name"):
                make(name)
        with refused("name_taken", "name"):
            groups.update_group(actor=acme.actor(acme.owner), group_id=other.pk, name="RISK")
    assert groups.create_group(actor=north.actor(north.owner), name="Risk").tenant_id == north.tenant.pk


def test_a_group_with_one_unknown_member_is_not_made_at_all(acme: Company, north: Company) -> None:
    administrator = acme.actor(acme.administrator)
    theirs, ours = membership_of(north, north.member).pk, membership_of(acme, acme.member).pk
    with no_change(acme), tenant_scope(acme.tenant.pk):
        # As in a page that shows the refusal and commits.
        for unknown in (theirs, uuid.uuid4()):
            with refused("member_unknown", "members"):
                groups.create_group(actor=administrator, name="Half", membership_ids=[ours, unknown])
        assert not Group.objects.filter(name="Half").exists()


def test_groups_of_another_tenant_and_everyones_cannot_be_touched(acme: Company, north: Company) -> None:
    administrator, mine = acme.actor(acme.administrator), membership_of(acme, acme.member).pk
    theirs = groups.create_group(actor=north.actor(north.owner), name="Theirs")
    with no_change(acme), no_change(north):
        for group in (theirs, everyone_of(acme)):
            for deed, more in (
                (groups.update_group, {"name": "Mine"}),
                (groups.delete_group, {}),
                (groups.add_members, {"membership_ids": [mine]}),
                (groups.remove_members, {"membership_ids": [mine]}),
            ):
                with pytest.raises(NotVisible):
                    deed(actor=administrator, group_id=group.pk, **more)
            with refused("parent_unknown", "parent_id"):
                groups.create_group(actor=administrator, name="Below", parent_id=group.pk)


@pytest.mark.parametrize("role", ["operator", "curator", "member", "reviewer", "auditor"])
def test_whoever_manages_nobody_makes_no_groups(acme: Company, make: Callable[..., Group], role: str) -> None:
    actor, group = acme.actor(getattr(acme, role)), make("Risk")
    ids = {"group_id": group.pk, "membership_ids": [membership_of(acme, acme.member).pk]}
    deeds: list[Callable[[], object]] = [
        lambda: groups.create_group(actor=actor, name="Mine"),
        lambda: groups.update_group(actor=actor, group_id=group.pk, name="Mine"),
        lambda: groups.delete_group(actor=actor, group_id=group.pk),
        lambda: groups.add_members(actor=actor, **ids),
        lambda: groups.remove_members(actor=actor, **ids),
    ]
    with no_change(acme):
        for deed in deeds:
            with pytest.raises(NotVisible):
                deed()
    with tenant_scope(acme.tenant.pk):
        if role == "auditor":
            assert groups.groups(actor).count() == 2
        else:
            with pytest.raises(NotVisible):
                groups.groups(actor)


def test_a_directory_keeps_groups(acme: Company) -> None:
    directory, _account = program(acme, "people.manage", scopes=["scim"])
    group = groups.create_group(actor=directory, name="Synced", external_id="g-1")
    ids = [membership_of(acme, acme.administrator).pk]
    assert groups.add_members(actor=directory, group_id=group.pk, membership_ids=ids) == 1
    for text, code in (("\x00", "name_invisible"), ("x" * 201, "too_long")):
        with refused(code, "external_id"):
            groups.update_group(actor=directory, group_id=group.pk, external_id=text)


def test_groups_are_found_by_words(acme: Company, make: Callable[..., Group]) -> None:
    make("Credit risk")
    with tenant_scope(acme.tenant.pk):
        actor = acme.actor(acme.auditor)
        assert [each.name for each in groups.groups(actor, "RISK cred")] == ["Credit risk"]
        assert list(groups.groups(actor, "100%")) == []
        assert [each.name for each in groups.groups(actor, "\x00")] == ["Everyone", "Credit risk"]


def test_names_are_looked_at_where_groups_get_them(acme: Company, make: Callable[..., Group]) -> None:
    group = make("Risk")
    owner = acme.actor(acme.owner)
    for name, code in (("Rіsk", "name_look_alike"), ("a\x00", "name_invisible"), ("", "name_missing")):
        with no_change(acme), refused(code, "name"):
            make(name)
        with no_change(acme), refused(code, "name"):
            groups.update_group(actor=owner, group_id=group.pk, name=name)
    with no_change(acme), refused("name_invisible", "description"):
        make("Other", description="\x00")


def test_a_member_of_two_tenants_has_the_groups_of_each_apart(
    acme: Company, north: Company, make: Callable[..., Group], stranger: User
) -> None:
    for company in (acme, north):
        with tenant_scope(company.tenant.pk):
            row = Membership.objects.create(user=stranger, role="member")
        owner = company.actor(company.owner)
        groups.create_group(actor=owner, name="Both", membership_ids=[row.pk])
    seen = []
    for company in (acme, north):
        with tenant_scope(company.tenant.pk):
            seen.append(groups.group_ids_of(stranger.pk))
            assert Group.objects.filter(pk__in=seen[-1]).count() == 2
    assert not seen[0] & seen[1]
