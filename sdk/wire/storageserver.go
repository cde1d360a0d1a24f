package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// storageServer is the plugin's end of Storage.
type storageServer struct {
	pluginv1.UnimplementedStorageServer
	impl protocol.StorageServer
}

// receive reads the first frame of a body into head, and gives the rest.
func receive(stream grpc.ServerStream, head proto.Message) (*body, error) {
	next := func(f *incomingFrame) error { return stream.RecvMsg(f) }
	var first incomingFrame
	if err := next(&first); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: a stream without a frame", protocol.ErrMalformed)
		}
		return nil, err
	}
	if first.head == nil {
		first.release()
		return nil, fmt.Errorf("%w: the first frame has no head", protocol.ErrMalformed)
	}
	if err := proto.Unmarshal(first.head, head); err != nil {
		first.release()
		return nil, fmt.Errorf("%w: the head of a body is no message", protocol.ErrMalformed)
	}
	b := &body{next: next, most: -1, ends: true, call: stream}
	b.begin(first)
	return b, nil
}

// limit sets the size that the head has announced.
func (b *body) limit(size int64) {
	b.most = size
	if b.err == nil {
		b.err = b.tooLong()
	}
}

// errUnread: what was not read to its end may not be acknowledged.
var errUnread = errors.New("the plugin stored an object without reading its body to the end")

func (s *storageServer) Put(stream grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error {
	ctx := stream.Context()
	instance, err := instanceOf(ctx)
	if err != nil {
		return toStatus(err)
	}
	head := &pluginv1.PutHead{}
	in, err := receive(stream, head)
	if err != nil {
		return toStatus(err)
	}
	defer in.close()
	put, err := putIn(head)
	if err != nil {
		return faultToStatus(err)
	}
	in.limit(put.Size)
	object, err := s.impl.Put(ctx, instance, put, in)
	if err == nil && !in.whole() {
		err = errUnread
	}
	if err != nil {
		return faultToStatus(err)
	}
	return stream.SendMsg(objectOut(object))
}

func (s *storageServer) PutPart(stream grpc.ClientStreamingServer[pluginv1.PartFrame, pluginv1.StoredPart]) error {
	ctx := stream.Context()
	instance, err := instanceOf(ctx)
	if err != nil {
		return toStatus(err)
	}
	head := &pluginv1.PartHead{}
	in, err := receive(stream, head)
	if err != nil {
		return toStatus(err)
	}
	defer in.close()
	if err := protocol.CheckKey(head.Key); err != nil {
		return faultToStatus(err)
	}
	in.limit(max(head.Size, -1))
	part, err := s.impl.PutPart(ctx, instance, head.Key, head.Upload, int(min(head.Number, math.MaxInt32)), max(head.Size, -1), in)
	if err == nil && !in.whole() {
		err = errUnread
	}
	if err != nil {
		return faultToStatus(err)
	}
	return stream.SendMsg(partOut(part))
}

func (s *storageServer) Get(m *pluginv1.GetRequest, stream grpc.ServerStreamingServer[pluginv1.GetFrame]) error {
	ctx := stream.Context()
	instance, err := instanceOf(ctx)
	if err == nil {
		err = protocol.CheckKey(m.Key)
	}
	if err != nil {
		return faultToStatus(err)
	}
	part := protocol.Range{From: m.From, Length: max(m.Length, -1)}
	if part.From < 0 {
		return faultToStatus(protocol.ErrRange)
	}
	object, content, err := s.impl.Get(ctx, instance, m.Key, part)
	if err != nil {
		return faultToStatus(err)
	}
	left, err := partOf(object, part)
	if err == nil {
		var file *pluginv1.OpenFile
		if m.TakesFile && left >= frameBytes {
			file = nameFile(content, left)
		}
		if file == nil {
			err = sendObject(stream, object, left, m.TakesBeside, content)
		} else if err = stream.SendMsg(&outgoingFrame{head: objectOut(object), file: file}); err == nil {
			<-ctx.Done() // the host has opened it, or has gone
		}
	}
	return faultToStatus(errors.Join(err, content.Close()))
}

// sendObject sends the bytes of a part, no more and no less.
func sendObject(stream grpc.ServerStream, object protocol.Object, left int64, beside bool, content io.Reader) error {
	if beside && left > frameBytes {
		if done, err := sendObjectBeside(stream, object, left, content); done {
			return err
		}
	}
	var head proto.Message = objectOut(object)
	for first := true; first || left > 0; first = false {
		frame := &outgoingFrame{head: head}
		head = nil
		if left > 0 {
			buf := buffers.Get(int(min(left, frameBytes)))
			n, err := io.ReadFull(content, *buf)
			if err != nil {
				buffers.Put(buf)
				return missing(object, left-int64(n), err)
			}
			left -= int64(n)
			frame.data = buf
		}
		if err := stream.SendMsg(frame); err != nil {
			return err
		}
	}
	return nil
}

func missing(object protocol.Object, n int64, err error) error {
	return fmt.Errorf("read %s: %d bytes are missing: %w", quoted(object.Key), n, err)
}

// unary is what most calls have in common.
func unary[Q, A any](ctx context.Context, request Q, serve func(instance string, request Q) (A, error)) (A, error) {
	var none A
	instance, err := instanceOf(ctx)
	if err != nil {
		return none, toStatus(err)
	}
	a, err := serve(instance, request)
	if err != nil {
		return none, faultToStatus(err)
	}
	return a, nil
}

func (s *storageServer) Stat(ctx context.Context, m *pluginv1.StatRequest) (*pluginv1.StoredObject, error) {
	return unary(ctx, m, func(instance string, m *pluginv1.StatRequest) (*pluginv1.StoredObject, error) {
		if err := protocol.CheckKey(m.Key); err != nil {
			return nil, err
		}
		o, err := s.impl.Stat(ctx, instance, m.Key)
		return objectOut(o), err
	})
}

func (s *storageServer) List(ctx context.Context, m *pluginv1.ListRequest) (*pluginv1.ListResponse, error) {
	return unary(ctx, m, func(instance string, m *pluginv1.ListRequest) (*pluginv1.ListResponse, error) {
		objects, more, err := s.impl.List(ctx, instance, m.Prefix, m.After, int(min(max(m.Limit, 1), maxList)))
		out := &pluginv1.ListResponse{More: more}
		for _, o := range objects {
			out.Objects = append(out.Objects, objectOut(o))
		}
		return out, err
	})
}

func (s *storageServer) Delete(ctx context.Context, m *pluginv1.DeleteRequest) (*pluginv1.DeleteResponse, error) {
	return unary(ctx, m, func(instance string, m *pluginv1.DeleteRequest) (*pluginv1.DeleteResponse, error) {
		if err := protocol.CheckKey(m.Key); err != nil {
			return nil, err
		}
		return &pluginv1.DeleteResponse{}, s.impl.Delete(ctx, instance, m.Key)
	})
}

func (s *storageServer) Copy(ctx context.Context, m *pluginv1.CopyRequest) (*pluginv1.StoredObject, error) {
	return unary(ctx, m, func(instance string, m *pluginv1.CopyRequest) (*pluginv1.StoredObject, error) {
		to, err := putIn(m.To)
		if err == nil {
			err = protocol.CheckKey(m.From)
		}
		if err != nil {
			return nil, err
		}
		o, err := s.impl.Copy(ctx, instance, m.From, to)
		return objectOut(o), err
	})
}

func (s *storageServer) Presign(ctx context.Context, m *pluginv1.PresignRequest) (*pluginv1.PresignResponse, error) {
	return unary(ctx, m, func(instance string, m *pluginv1.PresignRequest) (*pluginv1.PresignResponse, error) {
		if err := protocol.CheckKey(m.Key); err != nil {
			return nil, err
		}
		p, err := s.impl.Presign(ctx, instance, protocol.Presign{
			Method: m.Method, Key: m.Key, Expires: time.Duration(min(m.ExpiresMs, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond,
			ContentType: m.ContentType, FileName: m.FileName, Size: max(m.Size, -1), Upload: m.Upload, Part: int(min(m.Part, math.MaxInt32)),
		})
		return &pluginv1.PresignResponse{Url: text(p.URL), Header: p.Header, Expires: nanos(p.Expires)}, err
	})
}

func (s *storageServer) BeginUpload(ctx context.Context, m *pluginv1.BeginUploadRequest) (*pluginv1.BeginUploadResponse, error) {
	return unary(ctx, m, func(instance string, m *pluginv1.BeginUploadRequest) (*pluginv1.BeginUploadResponse, error) {
		put, err := putIn(m.Put)
		if err != nil {
			return nil, err
		}
		upload, err := s.impl.BeginUpload(ctx, instance, put)
		return &pluginv1.BeginUploadResponse{Upload: text(upload)}, err
	})
}

func (s *storageServer) CompleteUpload(ctx context.Context, m *pluginv1.CompleteUploadRequest) (*pluginv1.StoredObject, error) {
	return unary(ctx, m, func(instance string, m *pluginv1.CompleteUploadRequest) (*pluginv1.StoredObject, error) {
		put, err := putIn(m.Put)
		if err != nil {
			return nil, err
		}
		parts := make([]protocol.Part, len(m.Parts))
		for i, p := range m.Parts {
			parts[i] = partIn(p)
			if i > 0 && parts[i].Number <= parts[i-1].Number {
				return nil, fmt.Errorf("%w: part %d follows part %d", protocol.ErrMalformed, parts[i].Number, parts[i-1].Number)
			}
		}
		o, err := s.impl.CompleteUpload(ctx, instance, put, m.Upload, parts)
		return objectOut(o), err
	})
}

func (s *storageServer) AbortUpload(ctx context.Context, m *pluginv1.AbortUploadRequest) (*pluginv1.AbortUploadResponse, error) {
	return unary(ctx, m, func(instance string, m *pluginv1.AbortUploadRequest) (*pluginv1.AbortUploadResponse, error) {
		if err := protocol.CheckKey(m.Key); err != nil {
			return nil, err
		}
		return &pluginv1.AbortUploadResponse{}, s.impl.AbortUpload(ctx, instance, m.Key, m.Upload)
	})
}

func (s *storageServer) ListUploads(ctx context.Context, m *pluginv1.ListUploadsRequest) (*pluginv1.ListUploadsResponse, error) {
	return unary(ctx, m, func(instance string, m *pluginv1.ListUploadsRequest) (*pluginv1.ListUploadsResponse, error) {
		after := protocol.Upload{Key: m.After.GetKey(), ID: m.After.GetId(), Begun: instant(m.After.GetBegun())}
		uploads, more, err := s.impl.ListUploads(ctx, instance, m.Prefix, after, int(min(max(m.Limit, 1), maxList)))
		out := &pluginv1.ListUploadsResponse{More: more}
		for _, u := range uploads {
			out.Uploads = append(out.Uploads, &pluginv1.Upload{Key: text(u.Key), Id: text(u.ID), Begun: nanos(u.Begun)})
		}
		return out, err
	})
}

func (s *storageServer) Abilities(ctx context.Context, m *pluginv1.AbilitiesRequest) (*pluginv1.AbilitiesResponse, error) {
	return unary(ctx, m, func(instance string, _ *pluginv1.AbilitiesRequest) (*pluginv1.AbilitiesResponse, error) {
		a, err := s.impl.Abilities(ctx, instance)
		return abilitiesOut(a), err
	})
}
