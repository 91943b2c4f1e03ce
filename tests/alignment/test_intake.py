from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tadasu.alignment.fetch import fetch, is_public
from tadasu.alignment.intake import MAX_CHARACTERS, fingerprint, picture, question
from tadasu.errors import BadFile, BadInput, MissingPart


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


RED = Image.new("RGB", (8, 6), "red")


def chunk(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))


def bomb() -> bytes:
    """A small file that would unfold to 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    ends = chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + ends


def test_every_way_to_hand_in_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    file.write_bytes(png(RED))
    data = "data:image/png;base64," + base64.b64encode(png(RED)).decode()
    ways: list[Any] = [RED, file, str(file), png(RED), data, bytearray(png(RED))]
    assert {fingerprint(picture(way)) for way in ways} == {fingerprint(RED)}
    clear = Image.new("RGBA", (8, 6), (255, 0, 0, 0))
    assert picture(clear).getpixel((0, 0)) == (255, 255, 255)
    assert picture(RED.convert("CMYK")).mode == "RGB"
    turned = Image.new("RGB", (8, 6), "red")
    turned.getexif()[0x0112] = 6
    assert picture(turned).size == (6, 8)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (None, BadInput, "There is no picture"),
        (7, BadInput, "A int is no picture"),
        ("nowhere.png", BadFile, "There is no picture 'nowhere.png'"),
        (b"", BadFile, "is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", BadFile, "not a picture that can be read"),
        (bomb(), BadFile, "too large to open safely"),
        ("data:text/html;base64,AAAA", BadInput, "data:image/TYPE"),
        ("data:image/png;base64,A", BadInput, "not base64"),
        ("file:///etc/passwd", BadInput, "no web address"),
        ("ftp://example.org/a.png", BadInput, "no web address"),
        ("http://user:pass@example.org/a.png", BadInput, "no web address"),
        ("https://example.org/a.png", BadInput, "allowed hosts: none"),
        ("http://[::1", BadInput, "no web address"),
    ],
)
def test_what_is_no_picture(given: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        picture(given)


def test_open_pictures_keep_the_rules_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tadasu.alignment.intake.MAX_PIXELS", 10)
    with pytest.raises(BadFile, match="too large"):
        picture(RED)
    monkeypatch.undo()
    file = io.BytesIO()
    RED.save(file, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 6), "blue")])
    with Image.open(file) as moving, pytest.raises(BadFile, match="several frames"):
        picture(moving)
    with pytest.raises(BadInput, match="0 x 6"):
        picture(Image.new("RGB", (0, 6)))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "169.254.169.254", "0.0.0.0",
        "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "100.64.0.1", "224.0.0.1",
    ],
)  # fmt: skip
def test_private_addresses_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_public(address)

    def resolve(*_: Any, **__: Any) -> Any:
        public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))
        return [public, (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(BadInput, match="private address"):
        picture("https://pictures.example/a.png", hosts=frozenset({"pictures.example"}))


class Answers:
    """A host that answers once, here instead of at the address it claims."""

    def __init__(self, status: int, content: bytes) -> None:
        self.status, self.content = status, content

    def install(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        reached: list[Any] = []
        text = f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(self.content)}\r\n\r\n"
        whole = text.encode() + self.content

        def answer(listening: socket.socket) -> None:
            theirs, _ = listening.accept()
            with theirs, listening:
                theirs.recv(65536)
                theirs.sendall(whole)

        def connect(where: Any, timeout: float) -> Any:
            reached.append(where)
            listening = socket.create_server(("127.0.0.1", 0))
            threading.Thread(target=answer, args=(listening,), daemon=True).start()
            ours = socket.socket()
            ours.settimeout(timeout)
            ours.connect(listening.getsockname())
            return ours

        def resolve(host: str, port: int, **_: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setattr(socket, "create_connection", connect)
        return reached


HOSTS = frozenset({"pictures.example"})


def test_an_allowed_host_is_reached_at_the_checked_address(monkeypatch: Any) -> None:
    reached = Answers(200, png(RED)).install(monkeypatch)
    found = picture("http://pictures.example:8080/a.png?x=1", hosts=HOSTS)
    assert fingerprint(found) == fingerprint(RED)
    assert reached == [("8.8.8.8", 8080)]


@pytest.mark.parametrize(
    ("status", "content", "says"),
    [(302, b"", "302; redirects are not followed"), (404, b"", "404"), (200, b"x" * 9, "over 8")],
)
def test_other_answers(status: int, content: bytes, says: str, monkeypatch: Any) -> None:
    Answers(status, content).install(monkeypatch)
    with pytest.raises(BadInput, match=says):
        fetch("http://pictures.example/a", hosts=HOSTS, max_bytes=8)


def test_hosts_that_cannot_be_reached(monkeypatch: Any) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("no such host")

    Answers(200, b"").install(monkeypatch)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(MissingPart, match="not reachable: refused"):
        fetch("http://pictures.example/a", hosts=HOSTS)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(MissingPart, match="is not known"):
        fetch("http://pictures.example/a", hosts=HOSTS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "got a NoneType"),
        ("", "is empty"),
        (" \u200b\n", "is empty"),
        ("a\x00b", r"U\+0000 at position 1"),
        ("\ud800", r"U\+D800"),
        ("x" * (MAX_CHARACTERS + 1), "100,001 characters"),
    ],
)
def test_texts_that_are_no_question(text: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        question(text)


def test_questions_stay_as_they_are() -> None:
    for text in ("これは？", "?", "a\nb", "👍"):
        assert question(text) == text
