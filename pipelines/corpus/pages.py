"""The pages of a Parquet column, from their own headers: what decoding it will allocate.

A footer is written by whoever made the file, and a page is allocated as its header says, so both
are looked at before anything is decoded. The header is a Thrift struct in the compact protocol
(parquet.thrift, PageHeader: 2 is the uncompressed and 3 the compressed size).
"""

from collections.abc import Iterator
from typing import Any

MAX_PAGE = 64 << 20  # bytes of a page unpacked; writers aim at 1 MiB, one value has at most 10
BATCH_BYTES = 128 << 20  # bytes decoded at a time
BATCH_ROWS = 1024  # rows decoded at a time where they are small
HEADER = 1 << 16  # bytes; statistics of long values make a header long, and are cut by writers


def batch_rows(stream: Any, metadata: Any, groups: list[int], columns: list[str]) -> int:
    """How many rows to decode at a time so that they take about `BATCH_BYTES`.

    Raises:
        ValueError: a page would unpack to more than `MAX_PAGE` bytes, or has no sound header.
    """
    rows = BATCH_ROWS
    for group in map(metadata.row_group, groups):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema.partition(".")[0] not in columns:
                continue
            sizes = list(unpacked_sizes(stream, column))
            total = sum(sizes)
            if "DELTA_BYTE_ARRAY" in column.encodings:
                # A value may repeat all of the one before in a byte: what a row takes is unknown.
                total = max(sizes, default=0) * max(1, column.num_values)
            rows = min(rows, max(1, BATCH_BYTES * max(1, column.num_values) // max(1, total)))
    return rows


def has_deltas(metadata: Any) -> bool:
    """Whether a column of the file has delta-coded strings."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    columns = (group.column(number) for group in groups for number in range(group.num_columns))
    return any(encoding.startswith("DELTA_") for one in columns for encoding in one.encodings)


def unpacked_sizes(stream: Any, column: Any) -> Iterator[int]:
    """The uncompressed bytes of each page of a column chunk.

    Raises:
        ValueError: a page is too large, or has no sound header.
    """
    place = column.data_page_offset
    if column.has_dictionary_page:
        place = min(place, column.dictionary_page_offset)
    end = min(place + column.total_compressed_size, stream.size())
    while place < end:
        stream.seek(place)
        header = _Header(stream.read(HEADER))
        try:
            fields = header.struct()
        except (IndexError, RecursionError) as error:
            raise ValueError(f"no page header at byte {place}") from error
        unpacked, packed = fields.get(2, -1), fields.get(3, -1)
        if unpacked < 0 or packed < 0:
            raise ValueError(f"no page header at byte {place}")
        if unpacked > MAX_PAGE:
            raise ValueError(f"a page unpacks to {unpacked:,} bytes, more than {MAX_PAGE:,}")
        yield unpacked
        place += header.place + packed


class _Header:
    """A reader of Thrift's compact protocol, which keeps the integers of a struct."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def struct(self) -> dict[int, int]:
        """The integer fields by number; the others are skipped."""
        fields: dict[int, int] = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            value = self.value(head & 15)
            if value is not None:
                fields[number] = value
        return fields

    def value(self, kind: int) -> int | None:
        """The next value if it is an integer."""
        match kind:
            case 4 | 5 | 6:  # i16, i32, i64
                return self.zigzag()
            case 3:  # byte
                self.byte()
            case 7:  # double
                self.place += 8
            case 8:  # binary
                length = self.varint()  # moves the place, so it must be read before it is added to
                self.place += length
            case 9 | 10:  # list, set
                self.items()
            case 12:  # struct
                self.struct()
            case 1 | 2:  # true, false
                pass
            case _:
                raise IndexError(kind)
        return None

    def items(self) -> None:
        """Skip a list or set."""
        head = self.byte()
        count = head >> 4 if head >> 4 < 15 else self.varint()
        for _ in range(min(count, HEADER + 1)):
            self.value(head & 15)
            if self.place > len(self.data):
                raise IndexError(self.place)

    def byte(self) -> int:
        """The next byte."""
        self.place += 1
        return self.data[self.place - 1]

    def varint(self) -> int:
        """The next number of seven bits a byte."""
        value = shift = 0
        while (part := self.byte()) & 128 and shift < 70:
            value |= (part & 127) << shift
            shift += 7
        return value | part << shift

    def zigzag(self) -> int:
        """The next signed number."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)
