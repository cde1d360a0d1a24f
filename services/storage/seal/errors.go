package seal

import "errors"

var (
	// ErrKeyGone: the key of the object was deleted with DeleteOrg, or was never in this database. Nobody can read the object again.
	ErrKeyGone = errors.New("the key of the object is gone; it cannot be read again")
	// ErrCorrupt: the stored bytes are not those that were written: changed, cut off, put in another order, or another object's.
	ErrCorrupt = errors.New("the stored object is damaged")
	// ErrMaster: the keys in the database are wrapped by a master key that this host does not have.
	ErrMaster = errors.New("the master key is not that of the database")
)
