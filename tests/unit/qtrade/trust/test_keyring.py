"""Keys are made, rotated and revoked; each change is a new trust set that a root signed."""

import json
import shutil

import pytest

from qtrade.errors import BadInput, ConflictError, NotFound, Refused, TrustError, UsageError
from qtrade.settings import Settings
from qtrade.signing import load_key
from qtrade.trust import keyring as keyrings
from qtrade.trust.keyring import (
    ensure_keyring,
    import_trust,
    init_keys,
    load_keyring,
    parse_role,
    renew_trust,
    revoke_key,
    rotate_key,
    rotate_root,
)
from qtrade.trust.trust_set import ROLES, TrustSet, open_trust
from tests.fakes.examples import make_settings

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def usb(tmp_path):
    """A medium that is taken away after use."""
    (tmp_path / "usb").mkdir()
    return tmp_path / "usb"


def only(keys: dict[str, str]) -> str:
    (keyid,) = keys
    return keyid


def modes(settings: Settings) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in settings.keys_dir.glob("*.key")}


def test_a_lab_needs_no_ceremony(settings) -> None:
    keyring = ensure_keyring(settings)
    assert keyring.trust.lab
    assert keyring.trust.sequence == 1
    assert keyring.here() == ("root", *ROLES)
    assert keyring == ensure_keyring(settings) == load_keyring(settings)
    for role in ROLES:
        assert keyring.signer(role).public.keyid == only(keyring.trust.by_role()[role])
    assert modes(settings) == {0o600}
    assert settings.keys_dir.stat().st_mode & 0o777 == 0o700


def test_keys_of_an_older_state_directory_are_kept(settings) -> None:
    before = keyrings.ensure_key(settings.keys_dir, "build").public.keyid
    assert only(ensure_keyring(settings).trust.build) == before


def test_an_offline_root_leaves_nothing_of_it_in_the_folder(settings, usb) -> None:
    keyring = init_keys(settings, root_key=usb / "root.key", spare_root=usb / "spare.key", expires_days=30)
    assert not keyring.trust.lab
    assert keyring.here() == ROLES
    assert keyring.trust.expires - keyring.trust.issued_at == 30 * 86400
    assert set(keyring.trust.root) == {load_key(usb, name).public.keyid for name in ("root", "spare")}
    assert keyring.root_id == load_key(usb, "root").public.keyid
    private = load_key(usb, "root")
    for path in settings.keys_dir.iterdir():
        assert private.public.pem not in path.read_text() or path.name in ("trust.json", "root.pem")


def test_keys_are_made_once(settings, usb) -> None:
    ensure_keyring(settings)
    with pytest.raises(ConflictError, match="holds the lab's trust set already"):
        init_keys(settings, root_key=usb / "root.key")


def test_without_the_root_a_change_says_which_file_it_needs(settings, usb) -> None:
    keyring = init_keys(settings, root_key=usb / "root.key")
    for change in (
        lambda: rotate_key(settings, "build"),
        lambda: revoke_key(settings, only(keyring.trust.build)),
        lambda: renew_trust(settings),
        lambda: rotate_root(settings, usb / "next.key"),
    ):
        with pytest.raises(NotFound, match=f"the root key is not at {settings.keys_dir}/root.key") as caught:
            change()
        assert keyring.root_id[:16] in caught.value.details
        assert "--root-key" in caught.value.resolution
    assert load_keyring(settings) == keyring


def test_a_stranger_is_no_root(settings, usb) -> None:
    init_keys(settings, root_key=usb / "root.key")
    keyrings.make_key(usb / "other.key")
    with pytest.raises(TrustError, match="is not a root of this trust set"):
        rotate_key(settings, "build", root_key=usb / "other.key")
    (usb / "bad.key").write_text("no key")
    with pytest.raises(TrustError, match="holds no private key"):
        rotate_key(settings, "build", root_key=usb / "bad.key")


@pytest.mark.parametrize("role", ROLES)
def test_a_rotated_key_signs_and_the_old_one_is_kept_to_verify_with(settings, role) -> None:
    old = only(ensure_keyring(settings).trust.by_role()[role])
    after = rotate_key(settings, role)
    new = only(after.trust.by_role()[role])
    assert new != old
    assert after.signer(role).public.keyid == new
    assert after.trust.sequence == 2
    assert after.trust.lab, "a lab does not become production by a rotation"
    # A job works once, so nothing of an old job key is ever verified again.
    assert (old in {**after.trust.retired.build, **after.trust.retired.promote}) == (role != "job")
    assert not list(settings.keys_dir.glob("*.new"))
    assert modes(settings) == {0o600}


def test_a_revoked_key_is_trusted_for_nothing_and_gets_a_follower(settings) -> None:
    old = only(ensure_keyring(settings).trust.build)
    trust = revoke_key(settings, old[:12]).trust
    assert set(trust.revoked) == {old}
    assert old not in {**trust.build, **trust.retired.build}
    assert load_keyring(settings).signer("build").public.keyid == only(trust.build)
    assert trust.sequence == 2
    with pytest.raises(NotFound, match="has no key"):
        revoke_key(settings, old)


def test_a_retired_key_can_be_revoked_without_a_change_of_the_one_that_signs(settings) -> None:
    old = only(ensure_keyring(settings).trust.build)
    new = only(rotate_key(settings, "build").trust.build)
    trust = revoke_key(settings, old).trust
    assert (set(trust.build), set(trust.retired.build), set(trust.revoked)) == ({new}, set(), {old})
    assert load_keyring(settings).signer("build").public.keyid == new


@pytest.mark.parametrize("prefix", ["", "a", "abcdefg"])
def test_too_short_a_name_revokes_nothing(settings, prefix) -> None:
    ensure_keyring(settings)
    with pytest.raises(BadInput, match="names no single key"):
        revoke_key(settings, prefix)


def test_a_renewal_changes_nothing_but_the_expiry(settings) -> None:
    before = ensure_keyring(settings).trust
    after = renew_trust(settings, expires_days=5).trust
    assert after.sequence == 2
    assert after.expires == after.issued_at + 5 * 86400
    same = {"sequence": 1, "issued_at": before.issued_at, "expires": before.expires}
    assert after.model_copy(update=same) == before


def test_a_root_hands_over_to_the_next_one(settings, usb) -> None:
    first = init_keys(settings, root_key=usb / "root.key")
    second = rotate_root(settings, usb / "next.key", root_key=usb / "root.key")
    assert set(second.trust.root) == {load_key(usb, "next").public.keyid} == {second.root_id}
    # Who still knows the old root only can follow: both signed.
    assert open_trust(second.envelope, first.trust.roots()) == second.trust
    with pytest.raises(TrustError, match="is not a root"):
        rotate_key(settings, "build", root_key=usb / "root.key")
    assert rotate_key(settings, "build", root_key=usb / "next.key").trust.sequence == 3


def test_a_spare_root_takes_over_from_one_that_was_lost(settings, usb) -> None:
    lost = init_keys(settings, root_key=usb / "root.key", spare_root=usb / "spare.key").root_id
    (usb / "root.key").unlink()
    after = revoke_key(settings, lost, root_key=usb / "spare.key")
    assert set(after.trust.root) == {load_key(usb, "spare").public.keyid} == {after.root_id}
    assert lost in after.trust.revoked


def test_a_root_does_not_revoke_itself(settings, usb) -> None:
    root = init_keys(settings, root_key=usb / "root.key").root_id
    with pytest.raises(Refused, match="cannot revoke itself"):
        revoke_key(settings, root, root_key=usb / "root.key")


def test_a_key_that_is_not_here_is_asked_for(settings) -> None:
    keyring = ensure_keyring(settings)
    (settings.keys_dir / "promote.key").unlink()
    with pytest.raises(NotFound, match=r"there is no promote key at .*/promote\.key"):
        keyring.signer("promote")
    keyrings.make_key(settings.keys_dir / "promote.key")
    with pytest.raises(TrustError, match="is not the promote key of the trust set"):
        keyring.signer("promote")


def test_a_rotation_that_was_cut_off_is_finished_by_the_next_command(settings, monkeypatch) -> None:
    old = ensure_keyring(settings)
    with monkeypatch.context() as patch:

        def cut(*_args) -> None:
            raise KeyboardInterrupt

        patch.setattr(keyrings, "_settled", cut)
        with pytest.raises(KeyboardInterrupt):
            rotate_key(settings, "build")
    assert (settings.keys_dir / "build.key.new").is_file(), "the cut came too late to prove anything"
    after = load_keyring(settings)
    assert after.trust.sequence == 2
    assert after.signer("build").public.keyid == only(after.trust.build) != only(old.trust.build)


def test_a_rotation_that_was_cut_off_before_the_set_changed_is_begun_again(settings, monkeypatch) -> None:
    old = ensure_keyring(settings)
    with monkeypatch.context() as patch:

        def cut(*_args) -> None:
            raise KeyboardInterrupt

        patch.setattr(keyrings, "_write_set", cut)
        with pytest.raises(KeyboardInterrupt):
            rotate_key(settings, "build")
    assert (settings.keys_dir / "build.key.new").is_file()
    assert load_keyring(settings).signer("build").public.keyid == only(old.trust.build)
    assert rotate_key(settings, "build").trust.sequence == 2


def test_a_set_that_no_pinned_root_signed_is_refused(settings, tmp_path) -> None:
    ensure_keyring(settings)
    other = make_settings(tmp_path / "other")
    ensure_keyring(other)
    shutil.copyfile(other.keys_dir / "trust.json", settings.keys_dir / "trust.json")
    with pytest.raises(TrustError, match="no trusted key signed this"):
        load_keyring(settings)
    (settings.keys_dir / "trust.json").write_text("{")
    with pytest.raises(TrustError, match="is damaged"):
        load_keyring(settings)
    (settings.keys_dir / "trust.json").unlink()
    with pytest.raises(NotFound, match="there is no trust set"):
        load_keyring(settings)


def test_another_machine_takes_the_newer_set(settings, tmp_path) -> None:
    old = ensure_keyring(settings)
    other = make_settings(tmp_path / "other")
    shutil.copytree(settings.keys_dir, other.keys_dir)
    new = rotate_key(settings, "build")
    taken = import_trust(other, settings.keys_dir / "trust.json")
    assert taken.trust == new.trust
    with pytest.raises(TrustError, match="is not the build key of the trust set"):
        taken.signer("build")
    stale = tmp_path / "stale.json"
    stale.write_text(json.dumps(old.envelope))
    with pytest.raises(TrustError, match="is older than the trust set here: 1 < 2"):
        import_trust(other, stale)
    with pytest.raises(BadInput, match="holds no trust set"):
        import_trust(other, tmp_path / "missing.json")


def test_a_role_has_a_name() -> None:
    assert parse_role("job") == "job"
    with pytest.raises(UsageError, match="there is no role bake"):
        parse_role("bake")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields["build"].update(fields["job"]), "has two places"),
        (lambda fields: fields["revoked"].update(fields["build"]), "has two places"),
        (lambda fields: fields["build"].update({"0" * 64: next(iter(fields["job"].values()))}), "has another id"),
        (lambda fields: fields["build"].update({"0" * 64: "no key"}), "no public key in PEM"),
        (lambda fields: fields.update(root={}), "root"),
        (lambda fields: fields.update(sequence=0), "sequence"),
        (lambda fields: fields.update(surprise=1), "surprise"),
    ],
)
def test_a_malformed_set_is_refused(settings, change, message) -> None:
    fields = ensure_keyring(settings).trust.model_dump()
    change(fields)
    with pytest.raises(ValueError, match=message):
        TrustSet.model_validate(fields)
