"""Any inventory that speaks the contract of docs/contract.md: stream.py reads its answers, state.py keeps what they
said, source.py makes a Reading of it."""
