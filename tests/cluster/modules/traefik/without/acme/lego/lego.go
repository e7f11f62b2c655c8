// Package lego would talk to a certificate authority.
package lego

import (
	"context"
	"crypto/x509"
	"net/http"
	"time"

	"github.com/go-acme/lego/v5/acme"
	"github.com/go-acme/lego/v5/certificate"
	"github.com/go-acme/lego/v5/challenge"
	"github.com/go-acme/lego/v5/challenge/dns01"
	"github.com/go-acme/lego/v5/challenge/http01"
	"github.com/go-acme/lego/v5/challenge/tlsalpn01"
	"github.com/go-acme/lego/v5/registration"
)

// DirectoryURLLetsEncrypt is nowhere.
const DirectoryURLLetsEncrypt = ""

// Config is for a client that cannot be made.
type Config struct {
	CADirURL    string
	UserAgent   string
	HTTPClient  *http.Client
	Certificate struct{ Timeout time.Duration }
}

// NewConfig makes one.
func NewConfig(any) *Config { return &Config{} }

// Client is never made.
type Client struct {
	Certificate  certifier
	Challenge    solvers
	Registration registrar
}

// NewClient says why not.
func NewClient(*Config) (*Client, error) { return nil, challenge.ErrNone }

// CreateCertPool says why not.
func CreateCertPool([]string, bool) (*x509.CertPool, error) { return nil, challenge.ErrNone }

type certifier struct{}

func (certifier) Obtain(context.Context, certificate.ObtainRequest) (*certificate.Resource, error) {
	return nil, challenge.ErrNone
}

func (certifier) Renew(context.Context, certificate.Resource, *certificate.RenewOptions) (*certificate.Resource, error) {
	return nil, challenge.ErrNone
}

type solvers struct{}

func (solvers) SetDNS01Provider(challenge.Provider, ...dns01.ChallengeOption) error {
	return challenge.ErrNone
}

func (solvers) SetHTTP01Provider(challenge.Provider, ...http01.Option) error {
	return challenge.ErrNone
}

func (solvers) SetTLSALPN01Provider(challenge.Provider, ...tlsalpn01.Option) error {
	return challenge.ErrNone
}

type registrar struct{}

func (registrar) Register(context.Context, registration.RegisterOptions) (*acme.ExtendedAccount, error) {
	return nil, challenge.ErrNone
}

func (registrar) RegisterWithExternalAccountBinding(
	context.Context, registration.RegisterEABOptions,
) (*acme.ExtendedAccount, error) {
	return nil, challenge.ErrNone
}
