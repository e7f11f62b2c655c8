// Package tlsalpn01 would answer challenges by TLS.
package tlsalpn01

import (
	"time"

	"github.com/go-acme/lego/v5/challenge"
)

// ACMETLS1Protocol is the protocol of such a challenge.
const ACMETLS1Protocol = "acme-tls/1"

// Option changes nothing.
type Option struct{}

// SetDelay changes nothing.
func SetDelay(time.Duration) Option { return Option{} }

// ChallengeBlocks makes nothing.
func ChallengeBlocks(string, string) ([]byte, []byte, error) { return nil, nil, challenge.ErrNone }
