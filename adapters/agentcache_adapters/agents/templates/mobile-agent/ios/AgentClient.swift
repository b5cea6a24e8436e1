import Foundation

/// Asks the backend of __AGENT_NAME__. The shape is the one in shared/contract.json.
public struct AgentClient {
    public struct Answer: Decodable {
        public let answer: String
        public let cached: Bool
    }

    public enum Trouble: Error {
        case status(Int)
    }

    private let backend: URL
    private let session: URLSession

    public init(backend: URL, session: URLSession = .shared) {
        self.backend = backend
        self.session = session
    }

    public func ask(_ question: String) async throws -> Answer {
        var request = URLRequest(url: backend.appendingPathComponent("ask"))
        request.httpMethod = "POST"
        request.setValue("application/json", forHTTPHeaderField: "content-type")
        request.httpBody = try JSONEncoder().encode(["question": question])
        let (data, response) = try await session.data(for: request)
        let status = (response as? HTTPURLResponse)?.statusCode ?? 0
        guard status == 200 else { throw Trouble.status(status) }
        return try JSONDecoder().decode(Answer.self, from: data)
    }
}
