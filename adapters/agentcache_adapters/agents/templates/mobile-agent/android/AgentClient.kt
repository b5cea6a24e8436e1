package com.example.agent

import java.net.HttpURLConnection
import java.net.URL
import org.json.JSONObject

/** Asks the backend of __AGENT_NAME__. Call it off the main thread. The shape is the one in shared/contract.json. */
class AgentClient(private val backend: String) {
    data class Answer(val answer: String, val cached: Boolean)

    class Trouble(val status: Int) : Exception("the backend answered $status")

    fun ask(question: String): Answer {
        val connection = URL("${backend.trimEnd('/')}/ask").openConnection() as HttpURLConnection
        try {
            connection.requestMethod = "POST"
            connection.connectTimeout = 10_000
            connection.readTimeout = 60_000
            connection.doOutput = true
            connection.setRequestProperty("content-type", "application/json")
            connection.outputStream.use { it.write(JSONObject(mapOf("question" to question)).toString().toByteArray()) }
            if (connection.responseCode != 200) throw Trouble(connection.responseCode)
            val body = JSONObject(connection.inputStream.bufferedReader().use { it.readText() })
            return Answer(body.getString("answer"), body.getBoolean("cached"))
        } finally {
            connection.disconnect()
        }
    }
}
