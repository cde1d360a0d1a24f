-- Each upload writes them, and what reads them is rare: metrics sum up all orgs anyway, and there are no more holds than uploads under way.
DROP INDEX ledger_orgs_used;
DROP INDEX ledger_holds_org;
DROP INDEX ledger_holds_owner;
