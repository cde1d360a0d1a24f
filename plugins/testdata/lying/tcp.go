package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/rivergate/rivergate/sdk/wire"
)

// serveTCP serves without go-plugin and on TCP, as a plugin in another language may. With PLUGIN_CLIENT_CERT it demands
// mutual TLS, without it is open to all.
func serveTCP(l *liar) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	opts := wire.ServerOptions()
	certificate := ""
	if client := os.Getenv(wire.EnvClientCert); client != "" {
		config, der, err := mutual([]byte(client))
		if err != nil {
			return err
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(config)))
		certificate = base64.RawStdEncoding.EncodeToString(der)
	}
	server := grpc.NewServer(opts...)
	if err := l.GRPCServer(nil, server); err != nil {
		return err
	}
	fmt.Printf("1|1|tcp|%s|grpc|%s\n", listener.Addr(), certificate)
	return server.Serve(listener)
}

func mutual(client []byte) (*tls.Config, []byte, error) {
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(client) {
		return nil, nil, errors.New("PLUGIN_CLIENT_CERT is no certificate")
	}
	own, err := wire.Certificate()
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{own},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: clients, MinVersion: tls.VersionTLS12,
	}, own.Certificate[0], nil
}
