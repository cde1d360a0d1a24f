// Package e2e holds the end-to-end tests: the built binaries, real processes, real signals, real disks. What a test
// accepts with 202 it writes into a ledger, and at the end each entry must be found at the destination or in the dead
// letters.
//
// The tests build everything once. They are skipped by -short. A test that needs a right or a server that the machine does not
// give is skipped by name, and fails instead when CI=true.
package e2e
