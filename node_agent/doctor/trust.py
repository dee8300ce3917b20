"""Certificates, keys, lists and fonts: what `init`, `run` and issuing ask of them, asked all at once and before it is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime

from federation.rpc.transport import TransportRefusedError
from federation.rpc.validity import TEXTS as FAULTS
from federation.rpc.validity import Fault, Validity, fault_now
from federation.service_hours import CalendarError, ServiceHours, local_date
from federation.trust import Party, TrustedKey, TrustList, Use
from federation.verify.report import TEXTS as VERIFY_TEXTS
from federation.verify.report import VerifyError, rfc3339
from node_agent import documents
from node_agent.app import usable_credentials
from node_agent.certificates import fonts as font_files
from node_agent.certificates import keys as key_files
from node_agent.certificates.fonts import FontsMissingError
from node_agent.certificates.keys import ArchiveKeys, KeysMissingError
from node_agent.certificates.revocation_lists import SealError, current, fault, validity
from node_agent.certificates.sealing import SealKey, chains
from node_agent.desk import setup
from node_agent.doctor.findings import Finding, Installation, dates, ok, warning, wrong
from node_agent.settings import SettingsError

NEXT_YEAR_FROM = (12, 1)
"""Month and day from which next year's holidays are asked for: the State Council tells them in November."""

_RENEW = "向联合体的签发机构换发，新文件放到原处即可，无需重启 · have it renewed by the federation's authority and put the file in its place; no restart"
_BY_ID = frozenset({Use.CREDENTIAL, Use.STATUS, Use.DELIVERY})
_NO_DOCUMENTS = "未设置 [documents]：不出具文书 · no [documents] are set: nothing is issued"


def tables(at: Installation) -> Iterator[Finding]:
    """What `run` asks of the settings beyond their form."""
    problems = 0
    table = at.settings.documents
    looks: list[Callable[[], object]] = [
        at.settings.session_addresses,
        lambda: setup.rota_of(at.settings),
        lambda: setup.rule_of(at.settings),
    ]
    if table:
        looks += [
            lambda: documents.gateway_address(table),
            lambda: documents.log_authority_of(at.folder, table),
            lambda: documents.time_authority_of(at.folder, table),
        ]
    for look in looks:
        try:
            look()
        except SettingsError as error:
            problems += 1
            yield wrong(str(error))
    if not problems:
        yield ok(f"{at.settings.archive}，可用 · can be used")


def hours(at: Installation) -> Iterator[Finding]:
    """The announced calendar is one that opens, and has this year's holidays; from December on next year's."""
    try:
        calendar = setup.hours_of(at.settings)
        if calendar is None:
            yield ok("未公布服务时间 · no service hours are announced")
            return
        calendar.next_open(int(at.now.timestamp() * 1000))
    except SettingsError as error:
        yield wrong(str(error))
        return
    except CalendarError as error:
        yield wrong(f"[hours] {error}", "核对 weekly 与 closures · look at weekly and closures")
        return
    today = local_date(int(at.now.timestamp() * 1000))
    years = [today.year] + ([today.year + 1] if (today.month, today.day) >= NEXT_YEAR_FROM else [])
    lacking = [str(year) for year in years if not _has_days_of(calendar, year)]
    if lacking:
        yield warning(
            f"没有 {'、'.join(lacking)} 年的节假日，办理时限会算错 · no holidays of {', '.join(lacking)}: minutes promised are wrong on them",
            "在 [hours] 的 public_holidays 中加上该年，本版尚无其表时在 days 中逐日写明"
            " · add the year to public_holidays of [hours]; where this version has no table of it, write them under days",
        )
    else:
        yield ok(
            f"含 {'、'.join(map(str, years))} 年节假日 · with the holidays of {', '.join(map(str, years))}"
        )


def _has_days_of(calendar: ServiceHours, year: int) -> bool:
    return any(one.year == year for one in calendar.days)


def certificate(at: Installation) -> Iterator[Finding]:
    """The TLS certificate towards gateways as `run` asks it to be: key, names, dates, issuer."""
    try:
        credentials = usable_credentials(at.settings, at.folder)
        if credentials.is_plaintext:
            yield ok("本机试用，不用 TLS · a try-out on loopback, without TLS")
            return
        chain = credentials.read()[1]
    except TransportRefusedError as error:
        yield wrong(str(error), _RENEW)
        return
    yield dates(f"certificate {at.settings.certificate}", Validity.of(chain), at.now, _RENEW)
    if fault_now(credentials) is Fault.UNKNOWN_ISSUER:
        yield wrong(FAULTS[Fault.UNKNOWN_ISSUER], _RENEW)


def desk_certificate(at: Installation) -> Iterator[Finding]:
    """The certificate of the desk's API, where it has one."""
    settings = at.settings
    if not settings.desk_listen or not settings.desk_certificate:
        yield ok("审核台不用 TLS（仅本机）或未启用 · the desk's API has no TLS (loopback alone), or is off")
        return
    try:
        settings.desk_tls(at.folder)
    except SettingsError as error:
        yield wrong(str(error))
        return
    chain = (at.folder / settings.desk_certificate).read_bytes()
    to_do = "换发，放到原处后重启节点 · have it renewed, put it in its place and restart the agent"
    yield dates(f"desk_certificate {settings.desk_certificate}", Validity.of(chain), at.now, to_do)


def keys(at: Installation) -> Iterator[Finding]:
    """The archive's keys can be read, and the seal may be used."""
    if not at.settings.documents:
        yield ok(_NO_DOCUMENTS)
        return
    try:
        held = key_files.load(at.folder)
        seal = documents.seal_of(held)
    except (KeysMissingError, SealError, SettingsError) as error:
        yield wrong(str(error))
        return
    try:
        seal.check(at.now)
    except SealError as error:
        if "revocation_list" not in error.kind:  # of lists tells the check of lists
            yield wrong(str(error))
            return
    leaf = seal.chain[0]
    yield dates(
        "印章证书 · the seal's certificate", Validity(leaf.not_valid_before_utc, leaf.not_valid_after_utc), at.now,
        "向签发机构换发，存为 keys/seal.pem 后重启节点，并提交 lantai-node keys show"
        " · have it renewed, put it at keys/seal.pem, restart the agent, and hand in what lantai-node keys show prints",
    )  # fmt: skip


def trust_list(at: Installation) -> Iterator[Finding]:
    """What this archive signs with is on the federation's list, as of today."""
    if not at.settings.documents:
        yield ok(_NO_DOCUMENTS)
        return
    try:
        trust = documents.trust_list(at.folder, at.settings)
        if trust is None:
            yield ok(
                "未设置 trust_list：不作见证馆，密钥未核对 · no trust_list is set: no witness, and keys are not held against it"
            )
            return
        held = key_files.load(at.folder)
        documents.check_second_suite(trust, at.settings.archive, held)
    except (SettingsError, KeysMissingError, SealError) as error:
        yield wrong(str(error))
        return
    party = trust.parties.get(at.settings.archive)
    if party is None:
        yield wrong(
            f"信任名录（第 {trust.epoch} 版）没有本馆 · the trust list (epoch {trust.epoch}) lacks this archive",
            _HAND_IN,
        )
        return
    found = [one for key in _own(held, at).keys.values() if (one := _listed(key, party, at.now)) is not None]
    yield from found
    if not found:
        yield ok(f"各密钥均在名录第 {trust.epoch} 版 · every key is on the list, epoch {trust.epoch}")


_HAND_IN = "向联合体提交 lantai-node keys show 的内容，或放上最新的名录 · hand in what lantai-node keys show prints, or put the newest list here"


def _own(held: ArchiveKeys, at: Installation) -> Party:
    """How this archive would stand on the list."""
    entry = key_files.trust_entry(held, at.settings.archive, at.settings.name, at.now)
    tree = {
        "version": 1, "federation": at.settings.federation, "epoch": 1, "issued_at": rfc3339(at.now),
        "archives": [entry], "gateways": [], "witnesses": [], "tsas": [],
    }  # fmt: skip
    return TrustList.load(json.dumps(tree).encode()).parties[at.settings.archive]


def _listed(own: TrustedKey, party: Party, now: datetime) -> Finding | None:
    """What is wrong with how a key stands on the list."""
    same = [
        one
        for one in party.keys.values()
        if one.use is own.use and one.suite == own.suite and one.public.native == own.public.native
        and (one.id == own.id or own.use not in _BY_ID)
    ]  # fmt: skip
    if not same:
        return wrong(
            f"{own.id}（{own.use}）不在名录上，核验会失败 · not on the list, verifying fails: {own.id} ({own.use})",
            _HAND_IN,
        )
    try:
        same[0].check(now)
    except VerifyError as error:
        text = VERIFY_TEXTS[error.reason]
        return wrong(f"{own.id}（{own.use}）: {text.zh} · {text.en}", _HAND_IN)
    soon = dates(f"{own.id} ({own.use})", Validity(same[0].not_before, same[0].not_after), now, _HAND_IN)
    return soon if soon.to_do else None


def revocation_lists(at: Installation) -> Iterator[Finding]:
    """Lists of the seal and of the time-stamp authority: there, in date, and until when."""
    seal = _seal(at)
    if seal is None:
        yield ok("没有可用的印章，无需吊销列表 · no seal to be used, and no lists wanted")
        return
    try:
        authority = documents.time_authority_of(at.folder, at.settings.documents)
    except SettingsError:  # of which tells the check of the settings
        authority = None
    to_do = (
        "从签发机构取得新的吊销列表（keys/*.crl、time_crls），放到原处即可 · fetch fresh lists of the issuers (keys/*.crl, time_crls);"
        " they count as soon as they are there"
    )
    for kind, chain, lists in chains(seal, authority):
        whose = {"seal": "印章 · the seal", "time": "时间戳机构 · the time-stamp authority"}[kind]
        try:
            read = current(lists)
        except SealError as error:
            yield wrong(f"{whose}: {error}", to_do)
            continue
        found, term = fault(chain, read, at.now), validity(chain, read)
        if found and found != "expires_soon":
            yield wrong(f"{whose}: {_FAULTS.get(found, found)}", to_do)
        elif term is None:
            yield ok(f"{whose}: 无截止日期 · without an end")
        else:
            yield dates(whose, term, at.now, to_do)


_FAULTS = {
    "missing": "缺少签发机构的吊销列表 · a list of an issuer is missing",
    "stale": "吊销列表已过期，不能出证 · a list is out of date, nothing can be issued",
    "revoked": "证书已被吊销 · a certificate is revoked",
    "not_yet_valid": "吊销列表尚未生效（时钟？） · a list is of later (the clock?)",
}


def _seal(at: Installation) -> SealKey | None:
    if not at.settings.documents:
        return None
    try:
        return key_files.load(at.folder).seal
    except (KeysMissingError, SealError):  # of which tells the check of keys
        return None


def fonts(at: Installation) -> Iterator[Finding]:
    """The fonts documents are set in, read whole."""
    if not at.settings.documents:
        yield ok(_NO_DOCUMENTS)
        return
    folder = documents.fonts_folder(at.settings.documents)
    try:
        font_files.load(folder)
    except FontsMissingError as error:
        yield wrong(str(error))
        return
    if lacking := [name for name in font_files.OPTIONAL if name not in font_files.find(folder)]:
        yield warning(
            f"缺少 {'、'.join(lacking)}，部分生僻字无法出证 · {', '.join(lacking)} are missing: some rare characters can not be set",
            "安装 fonts-hanazono 或运行 make setup · install fonts-hanazono, or run make setup",
        )
    else:
        yield ok("字体齐备 · all fonts are there")
