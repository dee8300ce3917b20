"""The lists an operator keeps, and the commands that change them: archives (the roster), platforms (`clients`), and the trust list.

A running gateway never reads them again; it takes what they say at its next start.
"""
