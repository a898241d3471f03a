"""The short form of Scripts/soak: everything at once for half a minute."""

from soak import Soak


def test_everything_at_once(privileged, bpf_file_system, binary, sekisho, folder):
    soak = Soak(binary, sekisho, folder, say=lambda line: None)
    try:
        done = soak.run(30)
    except AssertionError as error:
        raise AssertionError(f"seed {soak.seed}, after {soak.done}: {error}") from error
    finally:
        soak.close()
    assert set(done) == {"swap", "flap", "stand_still", "wrong_policy", "replace", "kill"}
