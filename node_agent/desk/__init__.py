"""The review desk: a durable queue of what gateways ask this archive to decide, and the decisions on their way out.

`Desk` is the whole of it for the session and the pages; the store is one SQLite file beside the index. Reviewers' names
stay here: a gateway learns that a case was claimed, never by whom.
"""

from node_agent.desk.desk import Desk, OutgoingMail
from node_agent.desk.items import Item, State
from node_agent.desk.store import Store

__all__ = ["Desk", "Item", "OutgoingMail", "State", "Store"]
