// Package challenge has the words for a challenge.
package challenge

import (
	"context"
	"errors"
)

// ErrNone is what every way to a certificate ends with.
var ErrNone = errors.New("this Traefik is built without ACME")

// Provider answers a challenge.
type Provider interface {
	Present(ctx context.Context, domain, token, keyAuth string) error
	CleanUp(ctx context.Context, domain, token, keyAuth string) error
}
