import datetime
import json
import stat

import pytest

from harness.__main__ import main
from harness.errors import KeyFileError
from harness.sign.keys import read_public_key, signer_from_file

LATE = "2099-01-01"


def keygen(path, *more):
    return main(["keygen", str(path), "--owner", "Release team", *more])


def edit_public(path, **changes):
    public = path.with_name(path.name + ".pub.json")
    public.write_text(json.dumps({**json.loads(public.read_text()), **changes}))


def test_a_key_is_for_its_owner_alone_and_counts_for_a_year(tmp_path, capsys):
    path = tmp_path / "release.key"
    assert keygen(path) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    signer, public = signer_from_file(path)
    assert signer.public_key.keyid == public.keyid
    assert public.owner == "Release team"
    days = public.last_day - datetime.datetime.now(datetime.UTC).date()
    assert days in (datetime.timedelta(364), datetime.timedelta(365))
    assert "keep it offline" in capsys.readouterr().out


def test_no_key_is_ever_overwritten(tmp_path, capsys):
    path = tmp_path / "release.key"
    path.write_text("mine")
    assert keygen(path) == 2
    assert "a key is never overwritten" in capsys.readouterr().err
    assert path.read_text() == "mine"
    path.unlink()
    public = tmp_path / "release.key.pub.json"
    public.write_text("handed out")
    assert keygen(path) == 2
    assert f"{public} is there already" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--expires", "2020-01-01"], "the day is over"),
        (["--password-file", "nowhere"], "nowhere cannot be read"),
    ],
)
def test_a_key_that_would_be_of_no_use_is_not_made(tmp_path, capsys, more, reason):
    assert keygen(tmp_path / "key", *more) == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_key_needs_a_folder_and_a_day(tmp_path, capsys):
    assert keygen(tmp_path / "no" / "key") == 2
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        keygen(tmp_path / "key", "--expires", "soon")
    assert "'soon' is not a day, such as" in capsys.readouterr().err


def test_a_password_locks_the_private_key(tmp_path, run_root, capsys):
    path, secret, wrong = (tmp_path / name for name in ("key", "secret", "wrong"))
    secret.write_text("long and hard to guess\nnot read\n")
    wrong.write_text("another\n")
    assert keygen(path, "--expires", LATE, "--password-file", str(secret)) == 0
    assert "ENCRYPTED" in path.read_text()
    sign = ["sign", str(run_root), "--key", str(path)]
    assert main(sign) == 2
    assert "see --password-file" in capsys.readouterr().err
    assert main([*sign, "--password-file", str(wrong)]) == 2
    assert "the password is wrong" in capsys.readouterr().err
    wrong.write_text("\n")
    assert main([*sign, "--password-file", str(wrong)]) == 2
    assert "its first line is empty" in capsys.readouterr().err
    assert main([*sign, "--password-file", str(secret)]) == 0


def test_a_private_key_that_others_may_read_is_refused(tmp_path):
    keygen(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(KeyFileError, match="can be read by others; run: chmod 600"):
        signer_from_file(tmp_path / "key")


def test_keys_that_do_not_belong_together_are_refused(tmp_path):
    keygen(tmp_path / "one")
    keygen(tmp_path / "two")
    (tmp_path / "two").replace(tmp_path / "one")
    with pytest.raises(KeyFileError, match="does not belong to"):
        signer_from_file(tmp_path / "one")


def test_what_is_no_key_is_refused(tmp_path):
    path = tmp_path / "key"
    keygen(path)
    content = path.read_bytes()
    of_an_unknown_algorithm = content.replace(b"K2Vw", b"K3Vw")
    too_short_for_x448 = content.replace(b"K2Vw", b"K2Vv")
    for damaged in (b"no key", of_an_unknown_algorithm, too_short_for_x448):
        path.write_bytes(damaged)
        with pytest.raises(KeyFileError, match="is not a private key"):
            signer_from_file(path)
    path.unlink()
    with pytest.raises(KeyFileError, match="key cannot be read"):
        signer_from_file(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expires": "soon"}, "is not a public key file"),
        ({"more": "x"}, "is not a public key file"),
        ({"owner": None}, "is not a public key file"),
    ],
)
def test_a_damaged_public_key_file_is_refused(tmp_path, changes, reason):
    path = tmp_path / "key"
    keygen(path)
    edit_public(path, **changes)
    with pytest.raises(KeyFileError, match=reason):
        read_public_key(tmp_path / "key.pub.json")


def test_a_public_key_under_the_id_of_another_is_refused(signed, keys, tmp_path, capsys):
    keygen(tmp_path / "mine", "--expires", LATE)
    theirs = json.loads((keys / "ours.pub.json").read_text())
    edit_public(tmp_path / "mine", keyid=theirs["keyid"])
    public = tmp_path / "mine.pub.json"
    assert main(["verify", str(signed), "--key", str(public)]) == 2
    assert "its bytes are those of key" in capsys.readouterr().err
    edit_public(tmp_path / "mine", keyval={"public": "00"})
    assert main(["verify", str(signed), "--key", str(public)]) == 2
    assert "it is damaged" in capsys.readouterr().err


def test_a_public_key_file_that_is_not_there_is_told(signed, tmp_path, capsys):
    assert main(["verify", str(signed), "--key", str(tmp_path / "nowhere")]) == 2
    assert "nowhere cannot be read" in capsys.readouterr().err


FORGED = "R.\nverified"


def test_an_owner_is_a_line_of_printable_text(tmp_path, capsys):
    assert main(["keygen", str(tmp_path / "key"), "--owner", FORGED]) == 2
    assert "'R.\\nverified' is not a line of printable text" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "owner", [FORGED, "R.\x1b[2K\rverified", "R.\u2028verified", "\u202everified"]
)
def test_a_key_file_whose_owner_writes_a_line_of_its_own_is_refused(tmp_path, owner):
    keygen(tmp_path / "key")
    edit_public(tmp_path / "key", owner=owner)
    with pytest.raises(KeyFileError, match="not a line of printable text") as caught:
        read_public_key(tmp_path / "key.pub.json")
    assert not any(line.startswith("verified") for line in str(caught.value).splitlines())
