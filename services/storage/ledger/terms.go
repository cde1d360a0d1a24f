package ledger

// As puts the file under another object name than was reserved, in the hold's org: call it before Commit, for a name that is known only
// when all has come. The key stays.
func (h *Hold) As(objectName string) { h.as = objectName }

// Only lets Commit replace no other version than one with this SHA256, and create nothing: ErrChanged.
func (h *Hold) Only(sha256 string) { h.only = sha256 }
