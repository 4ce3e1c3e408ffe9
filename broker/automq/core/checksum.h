/* CRC-32C (Castagnoli's, reflected) by the processor's own instruction, alone or while copying.
 *
 * Three streams are summed at once, as the instruction takes three cycles and one can begin in each, and joined: what
 * zero bytes behind a message make of its CRC is a linear map over GF(2), kept as four tables for each distance.
 * Whole lines are stored past the cache: what is copied is an arena that is filled front to back, and reading its lines
 * only to overwrite them costs more than the copy.
 *
 * Only x86-64 with SSE 4.2; elsewhere `checksum_prepare` says that there is none, and nothing else may be called.
 */
#ifndef AUTOMQ_CHECKSUM_H
#define AUTOMQ_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>

#define CHECKSUM_POLYNOMIAL 0x82F63B78u
#define CHECKSUM_LONG_BYTES 1024
#define CHECKSUM_SHORT_BYTES 128
/* From here on the tables' and the fence's cost is small beside what storing past the cache saves. */
#define CHECKSUM_STREAMED_BYTES_MIN 8192

static uint32_t checksum_long[4][256];
static uint32_t checksum_short[4][256];
static uint32_t checksum_powers[64];

/* The product of two polynomials modulo the CRC's, bits reflected. */
static uint32_t checksum_times(uint32_t first, uint32_t second) {
  uint32_t product = 0;
  for (int bit = 31; bit >= 0; bit--) {
    product ^= second & (0u - ((first >> bit) & 1u));
    second = (second >> 1) ^ (CHECKSUM_POLYNOMIAL & (0u - (second & 1u)));
  }
  return product;
}

/* x to the power of 8 times `bytes`. */
static uint32_t checksum_distance(uint64_t bytes) {
  uint32_t power = 0x80000000u;
  for (int number = 0; bytes; number++, bytes >>= 1)
    if (bytes & 1) power = checksum_times(checksum_powers[number], power);
  return power;
}

/* CRC of two messages one after the other. */
static uint32_t checksum_joined(uint32_t first, uint32_t second, uint64_t second_bytes) {
  return checksum_times(checksum_distance(second_bytes), first) ^ second;
}

static int checksum_prepare(void) {
  if (!__builtin_cpu_supports("sse4.2")) return 0;
  checksum_powers[0] = 0x80000000u >> 8;
  for (int number = 1; number < 64; number++)
    checksum_powers[number] = checksum_times(checksum_powers[number - 1], checksum_powers[number - 1]);
  uint32_t by_long = checksum_distance(CHECKSUM_LONG_BYTES), by_short = checksum_distance(CHECKSUM_SHORT_BYTES);
  for (int row = 0; row < 4; row++)
    for (uint32_t byte = 0; byte < 256; byte++) {
      checksum_long[row][byte] = checksum_times(by_long, byte << (8 * row));
      checksum_short[row][byte] = checksum_times(by_short, byte << (8 * row));
    }
  return 1;
}

static inline uint32_t checksum_moved(uint32_t table[4][256], uint32_t crc) {
  return table[0][crc & 0xFF] ^ table[1][(crc >> 8) & 0xFF] ^ table[2][(crc >> 16) & 0xFF] ^ table[3][crc >> 24];
}

static inline uint64_t checksum_load(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

#define CHECKSUM_FAST __attribute__((target("sse4.2")))

CHECKSUM_FAST static inline uint64_t checksum_16(uint64_t crc, __m128i value) {
  crc = _mm_crc32_u64(crc, (uint64_t)_mm_cvtsi128_si64(value));
  return _mm_crc32_u64(crc, (uint64_t)_mm_extract_epi64(value, 1));
}

/* `*crc` is inverted, as it is inside a sum. How many of `size` bytes were summed: as many times three blocks as fit. */
CHECKSUM_FAST static inline size_t checksum_blocks(
    const uint8_t *from, size_t size, size_t block, uint32_t table[4][256], uint64_t *crc) {
  size_t done = 0;
  while (size - done >= 3 * block) {
    const uint8_t *at = from + done;
    uint64_t first = *crc, second = 0, third = 0;
    for (size_t index = 0; index < block; index += 8) {
      first = _mm_crc32_u64(first, checksum_load(at + index));
      second = _mm_crc32_u64(second, checksum_load(at + block + index));
      third = _mm_crc32_u64(third, checksum_load(at + 2 * block + index));
    }
    *crc = checksum_moved(table, checksum_moved(table, (uint32_t)first) ^ (uint32_t)second) ^ (uint32_t)third;
    done += 3 * block;
  }
  return done;
}

/* As `checksum_blocks`, and copies past the cache to `to`, which is a multiple of 16. */
CHECKSUM_FAST static inline size_t checksum_streamed(uint8_t *to, const uint8_t *from, size_t size, uint64_t *crc) {
  const size_t block = CHECKSUM_LONG_BYTES;
  size_t done = 0;
  while (size - done >= 3 * block) {
    const uint8_t *at = from + done;
    uint8_t *out = to + done;
    uint64_t first = *crc, second = 0, third = 0;
    for (size_t index = 0; index < block; index += 64)
      for (size_t part = index; part < index + 64; part += 16) {
        __m128i a = _mm_loadu_si128((const __m128i *)(at + part));
        __m128i b = _mm_loadu_si128((const __m128i *)(at + block + part));
        __m128i c = _mm_loadu_si128((const __m128i *)(at + 2 * block + part));
        _mm_stream_si128((__m128i *)(out + part), a);
        _mm_stream_si128((__m128i *)(out + block + part), b);
        _mm_stream_si128((__m128i *)(out + 2 * block + part), c);
        first = checksum_16(first, a);
        second = checksum_16(second, b);
        third = checksum_16(third, c);
      }
    *crc = checksum_moved(checksum_long, checksum_moved(checksum_long, (uint32_t)first) ^ (uint32_t)second) ^
           (uint32_t)third;
    done += 3 * block;
  }
  _mm_sfence();
  return done;
}

CHECKSUM_FAST static uint64_t checksum_rest(const uint8_t *from, size_t size, uint64_t crc) {
  size_t done = checksum_blocks(from, size, CHECKSUM_LONG_BYTES, checksum_long, &crc);
  done += checksum_blocks(from + done, size - done, CHECKSUM_SHORT_BYTES, checksum_short, &crc);
  for (; size - done >= 8; done += 8) crc = _mm_crc32_u64(crc, checksum_load(from + done));
  for (; done < size; done++) crc = _mm_crc32_u8((uint32_t)crc, from[done]);
  return crc;
}

/* CRC of what gave `value` followed by `size` bytes. */
static uint32_t checksum_of(const uint8_t *from, size_t size, uint32_t value) {
  return ~(uint32_t)checksum_rest(from, size, (uint32_t)~value);
}

/* As `checksum_of`, and copies the bytes to `to`; the two do not overlap. */
static uint32_t checksum_copied(uint8_t *to, const uint8_t *from, size_t size, uint32_t value) {
  uint64_t crc = (uint32_t)~value;
  if (size >= CHECKSUM_STREAMED_BYTES_MIN) {
    size_t head = (size_t)(-(uintptr_t)to & 15);
    memcpy(to, from, head);
    crc = checksum_rest(from, head, crc);
    head += checksum_streamed(to + head, from + head, size - head, &crc);
    to += head, from += head, size -= head;
  }
  memcpy(to, from, size);
  return ~(uint32_t)checksum_rest(from, size, crc);
}

#else

static int checksum_prepare(void) { return 0; }
static uint32_t checksum_of(const uint8_t *from, size_t size, uint32_t value) {
  (void)from, (void)size;
  return value;
}
static uint32_t checksum_copied(uint8_t *to, const uint8_t *from, size_t size, uint32_t value) {
  (void)to;
  return checksum_of(from, size, value);
}
static uint32_t checksum_joined(uint32_t first, uint32_t second, uint64_t second_bytes) {
  (void)second, (void)second_bytes;
  return first;
}

#endif

/* Big-endian numbers, wherever they lie. */
static inline uint64_t read_big(const uint8_t *at, int bytes) {
  uint64_t value = 0;
  for (int index = 0; index < bytes; index++) value = value << 8 | at[index];
  return value;
}
static inline void write_big(uint8_t *at, uint64_t value, int bytes) {
  for (int index = bytes - 1; index >= 0; index--, value >>= 8) at[index] = (uint8_t)value;
}

#endif
