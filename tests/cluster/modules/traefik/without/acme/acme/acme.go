// Package acme has the words for an account.
package acme

// Account is one that nobody has.
type Account struct{}

// ExtendedAccount is one with its place.
type ExtendedAccount struct {
	Account

	Location string
}
