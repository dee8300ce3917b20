"""An archive that issues: imported catalogue, keys, seal, log, as its agent has them; without the agent's sessions."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from federation.dates import DateSpan
from federation.mail import Dispatch, Subject, Wishes
from federation.query import Query
from federation.trust import TrustList
from federation.verify.status_lists import StatusLists
from loadtest.provision import provision
from node_agent import settings as settings_module
from node_agent.__main__ import main
from node_agent.desk.issuing import Order
from node_agent.disclosure import Disclosure
from node_agent.documents import Documents
from node_agent.index import Lookup
from node_agent.index.folder import DataFolder
from node_agent.objects import Shelf
from tests.fakes.documents import need_fonts

ROWS = """archival_code,title,category,name,id_number,other_name,other_id_number,event_date,place,certificate_no
X032-ZY·JH·1990-0127-018,周羣軍、石志步結婚登記,marriage,周羣軍,330425196703150011,石志步,330425196808080026,1990-05-12,石门镇,桐石字第127号
X032-ZY·JH·1991-0003-002,陈一鸣、张阿妹结婚登记,marriage,陈一鸣,,张阿妹,,1991,洲泉镇,
"""
PLAIN = Wishes()
DECIDED_MS = time.time_ns() // 1_000_000


class Archive:
    """桐乡市档案馆 with two records."""

    def __init__(self, folder: Path, *, second_suite: str | None = None) -> None:
        self.folder = folder / "330483"
        assert (
            main([
                "init", "--data", str(self.folder), "--archive", "330483", "--name", "桐乡市档案馆",
                "--listen", "127.0.0.1:1", "--plaintext-on-loopback",
            ])
            == 0
        )  # fmt: skip
        csv = folder / "结婚登记.csv"
        csv.write_text(ROWS, "utf-8")
        assert main(["import", str(csv), "--data", str(self.folder), "--json"]) == 0
        path = provision(
            folder,
            [("330483", "桐乡市档案馆", self.folder), ("330400", "嘉兴市档案馆", folder / "330400")],
            second_suite=second_suite,
        )
        with (self.folder / "archive.toml").open("a", encoding="utf-8") as file:
            file.write(
                f'[documents]\ngateway = "https://gateway.example"\ntrust_list = {json.dumps(str(path))}\n'
            )
        self.trust = TrustList.load(path.read_bytes())
        self.open()

    def open(self) -> None:
        data = DataFolder(self.folder)
        self.lookup = Lookup(self.folder)
        self.disclosure = Disclosure(data.index_key(), data.federation_key(), frozenset())
        self.documents = Documents(
            self.folder, settings_module.load(self.folder), self.lookup, self.disclosure
        )
        self.shelf = Shelf()
        self.documents.shelve(self.shelf)
        found = self.lookup.search(
            Query(
                category="marriage", name="周群军", other_name="石志步", event=DateSpan.written("1990", "")
            ),
            limit=5,
        ).found[0]
        self.ref = self.disclosure.reference(found)

    def close(self) -> None:
        self.documents.close()
        self.lookup.close()

    def order(self, case_id: str = "case-1", *, wishes: Wishes = PLAIN, **changes) -> Order:
        request = Dispatch(
            1, ref=self.ref, category="marriage", purpose="marriage_proof", relation="SELF",
            subject=Subject(name="周群军", other_name="石志步"), event={"from": "1990", "to": "1990"}, wishes=wishes,
        )  # fmt: skip
        return Order(
            **{
                "case_id": case_id, "group": 1, "number": "2026-000001", "archival_code": "", "request": request,
                "decided_by": "王芳", "rule": "", "decided_ms": DECIDED_MS, **changes,
            }
        )  # fmt: skip

    def fetch(self, name: str, body: bytes = b"") -> bytes:
        """An object as a gateway would get it."""
        held = self.shelf.open(name, body)
        data = held.read(0, held.size)
        assert hashlib.sha256(data).digest() == held.sha256
        return data

    def statuses(self) -> StatusLists:
        """The list a verifier of this federation believes: with both signatures where two are asked for."""
        if self.trust.parties["330483"].second_suite is not None:
            return StatusLists(self.trust, [self.fetch("status/list.cwt")])
        return StatusLists(self.trust, [self.fetch("status/list").decode()])


@pytest.fixture
def archive(tmp_path):
    need_fonts()
    made = Archive(tmp_path)
    yield made
    made.close()
